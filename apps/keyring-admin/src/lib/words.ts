/** Codes of the trail and of quarantine, as people say them. What is not here is shown as it is. */

/** `key.promoted` becomes `key promoted`. */
export function sayEvent(action: string): string {
  return action.replaceAll('.', ' ').replaceAll('_', ' ');
}

const quarantineReasons: Readonly<Record<string, string>> = {
  does_not_open: 'does not open: wrong key, wrong place or changed bytes',
  malformed: 'is no envelope: its bytes were cut or changed',
  unknown_key: 'names a key that does not exist here',
  key_unavailable: 'is under a key that is suspended or destroyed',
};

export function sayQuarantine(reason: string): string {
  return quarantineReasons[reason] ?? reason;
}
