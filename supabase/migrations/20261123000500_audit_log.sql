-- What happened, append-only. No foreign keys: deleting a project never deletes its trail. Entries are inserted in the
-- transaction of what they record; nothing is locked between projects.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.audit_log (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null check (length(actor) between 1 and 200),
  action text not null check (action ~ '^[a-z_]+\.[a-z_]+$'),
  outcome text not null check (outcome in ('succeeded', 'failed', 'refused')),
  project_id uuid,
  subject text not null check (length(subject) between 1 and 400),
  reason text check (length(reason) <= 1000),
  details jsonb not null default '{}'
);
comment on column keyring.audit_log.subject is 'What it was done to, as kind:id (project:…, key:…, secret:…, rotation:…)';
create index audit_log_project on keyring.audit_log (project_id, id);

create function keyring.refuse_audit_change() returns trigger
  language plpgsql set search_path = ''
  as $$
  begin
    raise exception 'the audit log is append-only' using errcode = 'MK007';
  end
  $$;

create trigger audit_log_is_append_only before update or delete on keyring.audit_log
  for each row execute function keyring.refuse_audit_change();
create trigger audit_log_is_not_truncated before truncate on keyring.audit_log
  for each statement execute function keyring.refuse_audit_change();

alter table keyring.audit_log enable row level security;
alter table keyring.audit_log force row level security;
create policy keyring_roles on keyring.audit_log for select to keyring_owner, keyring_service using (true);
create policy keyring_append on keyring.audit_log for insert to keyring_owner, keyring_service with check (true);
-- Neither place nor time of an entry is the writer's to choose.
grant select, insert (actor, action, outcome, project_id, subject, reason, details) on keyring.audit_log to keyring_service;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261123000500' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
