/** What leaked, or why? The page asks, and picks the job (docs: "rotation" means three of them). */

export const whys = [
  { value: 'routine', name: 'Nothing leaked', text: 'Routine, or to be sure: every secret moves to a new key.' },
  { value: 'data-key', name: 'A data key leaked', text: "One project's key is known to others, or may be." },
  { value: 'value', name: 'A value leaked', text: 'A password or token was seen: in a log, a chat, a repository.' },
  { value: 'wrapping-key', name: 'The wrapping key leaked', text: 'From the memory of a process, or a core dump.' },
  { value: 'root-key', name: 'The root key leaked', text: 'The file was copied, or the KMS was open to others.' },
  { value: 'person', name: 'A person left', text: 'Somebody who had access has it no longer.' },
] as const;

export type Why = (typeof whys)[number]['value'];

export function whyOf(named: string | null): Why | undefined {
  return whys.find(({ value }) => value === named)?.value;
}
