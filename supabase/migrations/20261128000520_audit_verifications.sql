-- Workers verify the trail by themselves: what is new every few minutes, all of it every day, one process at a time. Here is who is at it, how
-- far that is, and what the last one found. What is believed of it is signed: a position is a checkpoint.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.audit_verifications (
  scope text primary key check (scope in ('recent', 'whole')),
  -- The process that is at it, by its row in keyring.instances: one that is silent, or gone, is taken over from.
  verifier uuid,
  -- Of what is under way; null: nothing is.
  begun_at timestamptz,
  begun_after bigint,
  position text check (length(position) between 1 and 2000),
  -- Of the last that ended.
  verified_at timestamptz,
  verified_by text check (length(verified_by) between 1 and 200),
  verified_after bigint,
  verified_through bigint,
  given text check (given in ('matches', 'archived')),
  problem jsonb,
  check ((verified_at is null) = (verified_by is null))
) with (fillfactor = 50);
insert into keyring.audit_verifications (scope) values ('recent'), ('whole');
comment on table keyring.audit_verifications is 'The last verification of what is new in the trail and of all of it, and the one that is under way';
comment on column keyring.audit_verifications.position is 'The note of the checkpoint up to which all was verified, of what is under way or else of the last';
comment on column keyring.audit_verifications.problem is 'What a verification found. Stands until one of the whole trail finds nothing';

alter table keyring.audit_verifications enable row level security;
alter table keyring.audit_verifications force row level security;
create policy keyring_roles on keyring.audit_verifications for select to keyring_owner, keyring_service using (true);
create policy keyring_note on keyring.audit_verifications for update to keyring_owner, keyring_service using (true) with check (true);
grant select on keyring.audit_verifications to keyring_service;
grant update (verifier, begun_at, begun_after, position, verified_at, verified_by, verified_after, verified_through, given, problem)
  on keyring.audit_verifications to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261128000520' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
