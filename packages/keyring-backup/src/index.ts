/** Backups of MeshHook Keyring's wrapping keys as files of age (https://age-encryption.org/v1), which `age` opens, too. */
export { ageRecipients, MIN_PASSPHRASE_CHARACTERS, type AgeOptions, type AgeRecipients } from './recipients.ts';
export { openBackupFile, parseIdentities, type BackupFileKeys } from './open.ts';
