-- Backups of the wrapping keys (and of a root key that is a file): when, to whom, which file, and whether one was ever opened
-- again. Never a key. The installation gets an id, so that a backup says which one it is of.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

alter table keyring.installation add column id uuid not null default gen_random_uuid();
-- Of one from before: an id that a dump of it, restored and migrated again, gets as well.
update keyring.installation set id = (select w.id from keyring.wrapping_keys w order by w.version limit 1);
comment on column keyring.installation.id is 'Names the installation; copies of its database have the same';

create table keyring.root_key_backups (
  id uuid primary key,
  created_at timestamptz not null default now(),
  root_fingerprint text not null check (root_fingerprint ~ '^[0-9a-f]{32}$'),
  wrapping_key_ids uuid[] not null check (pg_catalog.cardinality(wrapping_key_ids) between 1 and 10000),
  recipients text[] not null,
  file_sha256 bytea check (octet_length(file_sha256) = 32),
  written_at timestamptz,
  verified_at timestamptz
);
comment on table keyring.root_key_backups is 'Backups of the wrapping keys, which are files elsewhere: never a key';
comment on column keyring.root_key_backups.recipients is 'Whom the file is encrypted to: public keys of age, or passphrase';
comment on column keyring.root_key_backups.file_sha256 is
  'Of the file as it was written. Null: known only from having been verified after something else had decrypted it';
comment on column keyring.root_key_backups.written_at is 'Null: sealed, and not known to have reached its file';
comment on column keyring.root_key_backups.verified_at is
  'When the file was last opened, and every key in it proved to be this database''s';

alter table keyring.root_key_backups enable row level security;
alter table keyring.root_key_backups force row level security;
create policy keyring_roles on keyring.root_key_backups to keyring_owner, keyring_service using (true) with check (true);
grant select, insert, update (written_at, verified_at) on keyring.root_key_backups to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127002000' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
