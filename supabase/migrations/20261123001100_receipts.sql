-- Signing keys, and the signed receipt that a finalized project leaves behind. A signing key is independent of every other
-- key; its public half is kept for ever, so that what it signed outlives any rotation or loss.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.signing_keys (
  id uuid primary key,
  version integer not null unique check (version > 0),
  algorithm text not null default 'Ed25519' check (algorithm = 'Ed25519'),
  public_key bytea not null check (octet_length(public_key) = 32),
  wrapped_key bytea not null check (octet_length(wrapped_key) = 78),
  wrapping_key_id uuid not null references keyring.wrapping_keys (id),
  created_at timestamptz not null default now()
);
comment on table keyring.signing_keys is 'Ed25519 keys that sign receipts; the newest signs, every public half verifies';

create table keyring.receipts (
  rotation_id uuid not null references keyring.rotations (id),
  project_id uuid not null,
  payload text not null,
  signature bytea not null check (octet_length(signature) = 64),
  signing_key_id uuid not null references keyring.signing_keys (id),
  created_at timestamptz not null default now(),
  primary key (rotation_id, project_id)
);
comment on table keyring.receipts is
  'What a finalized project proved, as signed. No foreign key to projects: a receipt outlives its project';

create function keyring.refuse_receipt_change() returns trigger
  language plpgsql set search_path = ''
  as $$
  begin
    raise exception 'receipts and signing keys are kept as they are' using errcode = 'MK007';
  end
  $$;
create trigger receipts_are_kept before update or delete on keyring.receipts
  for each row execute function keyring.refuse_receipt_change();
create trigger receipts_are_not_truncated before truncate on keyring.receipts
  for each statement execute function keyring.refuse_receipt_change();
create trigger signing_keys_are_kept before delete on keyring.signing_keys
  for each row execute function keyring.refuse_receipt_change();

alter table keyring.signing_keys enable row level security;
alter table keyring.signing_keys force row level security;
alter table keyring.receipts enable row level security;
alter table keyring.receipts force row level security;
create policy keyring_roles on keyring.signing_keys to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.receipts to keyring_owner, keyring_service using (true) with check (true);
grant select, insert on keyring.signing_keys to keyring_service;
grant select, insert on keyring.receipts to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261123001100' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
