-- Telling one endpoint of the installation what happened: written in the transaction of what it tells, delivered by workers.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.notification_endpoint (
  only_row boolean primary key default true check (only_row),
  url text not null check (length(url) between 1 and 2000),
  events text[] not null check (cardinality(events) between 1 and 20),
  secret_project_id uuid references public.projects (id) on delete set null,
  changed_at timestamptz not null default now(),
  changed_by text not null check (length(changed_by) between 1 and 200)
);
comment on table keyring.notification_endpoint is 'Whom this installation tells what happened, and of what; no row: nobody';
comment on column keyring.notification_endpoint.secret_project_id is
  'Project of the keyring''s own, with the secret that signs: rotations move it as any other';

create table keyring.notifications (
  id uuid primary key default gen_random_uuid(),
  event text not null,
  body jsonb not null,
  created_at timestamptz not null default clock_timestamp(),
  queued_at timestamptz,
  state text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
  attempts integer not null default 0,
  last_attempt_at timestamptz,
  last_status integer,
  last_error text check (length(last_error) <= 500)
);
comment on table keyring.notifications is 'What is to be told, and the log of how that went: the newest thousand';
create index notifications_by_time on keyring.notifications (created_at desc);
create index notifications_unqueued on keyring.notifications (created_at) where queued_at is null;

-- Its transaction is that of the entry: what was rolled back is told to nobody, and what was committed is not forgotten.
create function keyring.note_notification() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
  declare
    told pg_catalog.text := case new.action when 'approval.requested' then 'approval.wanted' else new.action end;
  begin
    insert into keyring.notifications (event, body)
      select told, pg_catalog.jsonb_build_object('type', told, 'timestamp', new.at, 'data', pg_catalog.jsonb_build_object(
        'subject', new.subject, 'projectId', new.project_id, 'outcome', new.outcome, 'details', new.details))
      from keyring.notification_endpoint e where told = any (e.events);
    return null;
  end
  $$;
revoke execute on function keyring.note_notification() from public;
create trigger note_notification after insert on keyring.audit_log
  for each row when (new.action in ('rotation.completed', 'rotation.failed', 'rotation.blocked', 'rotation.overdue', 'key.compromised',
    'approval.requested') and new.outcome <> 'refused')
  execute function keyring.note_notification();

alter table keyring.notification_endpoint enable row level security;
alter table keyring.notification_endpoint force row level security;
alter table keyring.notifications enable row level security;
alter table keyring.notifications force row level security;
create policy keyring_roles on keyring.notification_endpoint to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.notifications to keyring_owner, keyring_service using (true) with check (true);
grant select, insert, update, delete on keyring.notification_endpoint to keyring_service;
grant select, insert, update, delete on keyring.notifications to keyring_service;

-- Ten tries over some two days.
select keyring_jobs.create_queue('notifications',
  '{"policy":"standard","retryLimit":9,"retryDelay":30,"retryBackoff":true,"retryDelayMax":43200,"expireInSeconds":86400,"deleteAfterSeconds":600}');

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127003410' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
