-- What supabase/migrations/ makes of an empty PostgreSQL 18, read from its catalog. Made by `node scripts/schema-dump.ts`
-- and compared by `npm run check`; not for running. The migrations run as schema_migrator, a login with CREATEROLE.

create role anon nosuper inherit nocreaterole nocreatedb nocanlogin noreplication nobypassrls;

create role authenticated nosuper inherit nocreaterole nocreatedb nocanlogin noreplication nobypassrls;

create role keyring_mover nosuper inherit nocreaterole nocreatedb nocanlogin noreplication nobypassrls;

create role keyring_owner nosuper inherit nocreaterole nocreatedb nocanlogin noreplication nobypassrls;

create role keyring_reader nosuper inherit nocreaterole nocreatedb nocanlogin noreplication nobypassrls;

create role keyring_service nosuper noinherit nocreaterole nocreatedb nocanlogin noreplication nobypassrls;

create role keyring_user nosuper inherit nocreaterole nocreatedb nocanlogin noreplication nobypassrls;

create role service_role nosuper inherit nocreaterole nocreatedb nocanlogin noreplication nobypassrls;

grant anon to schema_migrator with inherit false, set false, admin true;
grant authenticated to keyring_service with inherit false, set true, admin false;
grant authenticated to schema_migrator with inherit false, set false, admin true;
grant keyring_mover to schema_migrator with inherit true, set true, admin true;
grant keyring_owner to schema_migrator with inherit true, set true, admin true;
grant keyring_reader to keyring_service with inherit false, set true, admin false;
grant keyring_reader to schema_migrator with inherit false, set false, admin true;
grant keyring_service to schema_migrator with inherit true, set true, admin true;
grant keyring_user to keyring_service with inherit false, set true, admin false;
grant keyring_user to schema_migrator with inherit false, set false, admin true;
grant service_role to schema_migrator with inherit false, set false, admin true;

create schema auth authorization schema_migrator;
grant usage on schema auth to anon;
grant usage on schema auth to authenticated;
grant usage on schema auth to keyring_owner;
grant usage on schema auth to keyring_service;
grant usage on schema auth to service_role;

create schema keyring authorization keyring_owner;
comment on schema keyring is 'MeshHook Keyring: versioned keys, their rotation and its trail. Not for PostgREST.';
grant usage on schema keyring to keyring_auditor;
grant usage on schema keyring to keyring_mover;
grant usage on schema keyring to keyring_reader;
grant usage on schema keyring to keyring_service;
grant usage on schema keyring to keyring_user;

create schema keyring_jobs authorization keyring_owner;
comment on schema keyring_jobs is 'MeshHook Keyring: pg-boss''s tables. They hold ids of rotations and projects, no names and no secrets';
grant usage on schema keyring_jobs to keyring_service;

create schema public authorization pg_database_owner;
comment on schema public is 'standard public schema';
grant usage on schema public to public;

create schema supabase_migrations authorization schema_migrator;

alter default privileges for role keyring_owner everywhere: functions get execute to keyring_owner;

create type keyring_jobs.job_state as enum ('created', 'retry', 'active', 'completed', 'cancelled', 'failed');
alter type keyring_jobs.job_state owner to keyring_owner;
grant usage on type keyring_jobs.job_state to public;

create table keyring.access_settings (
  only_row boolean not null default true,
  two_people boolean not null default true,
  constraint access_settings_only_row_check CHECK (only_row),
  constraint access_settings_pkey PRIMARY KEY (only_row)
);
alter table keyring.access_settings owner to keyring_owner;
alter table keyring.access_settings enable row level security;
alter table keyring.access_settings force row level security;
CREATE TRIGGER guard_access_settings BEFORE UPDATE ON keyring.access_settings FOR EACH ROW EXECUTE FUNCTION keyring.guard_access_settings();
create policy keyring_roles on keyring.access_settings for all to keyring_owner, keyring_service using (true) with check (true);
comment on column keyring.access_settings.two_people is 'Is the rule of two people wanted? It is in force while there are two admins, too';
grant select on table keyring.access_settings to keyring_service;
grant update on column keyring.access_settings.two_people to keyring_service;

create table keyring.api_tokens (
  id uuid not null default gen_random_uuid(),
  name text not null,
  digest bytea not null,
  role text,
  permissions text[],
  project_ids uuid[],
  person text not null,
  created_by text not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  expires_at timestamp with time zone not null,
  last_used_at timestamp with time zone,
  revoked_at timestamp with time zone,
  revoked_by text,
  constraint api_tokens_check CHECK (((role IS NULL) <> (permissions IS NULL))),
  constraint api_tokens_check1 CHECK (((role IS DISTINCT FROM 'instance_admin'::text) OR (project_ids IS NULL))),
  constraint api_tokens_check2 CHECK (((revoked_at IS NULL) = (revoked_by IS NULL))),
  constraint api_tokens_created_by_check CHECK (((length(created_by) >= 1) AND (length(created_by) <= 200))),
  constraint api_tokens_digest_check CHECK ((octet_length(digest) = 32)),
  constraint api_tokens_digest_key UNIQUE (digest),
  constraint api_tokens_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200))),
  constraint api_tokens_permissions_check CHECK (((cardinality(permissions) >= 1) AND (cardinality(permissions) <= 20))),
  constraint api_tokens_person_check CHECK (((length(person) >= 1) AND (length(person) <= 200))),
  constraint api_tokens_pkey PRIMARY KEY (id),
  constraint api_tokens_project_ids_check CHECK (((cardinality(project_ids) >= 1) AND (cardinality(project_ids) <= 1000))),
  constraint api_tokens_revoked_by_check CHECK (((length(revoked_by) >= 1) AND (length(revoked_by) <= 200))),
  constraint api_tokens_role_check CHECK ((role = ANY (ARRAY['instance_admin'::text, 'project_admin'::text, 'auditor'::text, 'service'::text])))
);
alter table keyring.api_tokens owner to keyring_owner;
alter table keyring.api_tokens enable row level security;
alter table keyring.api_tokens force row level security;
CREATE TRIGGER guard_api_token BEFORE UPDATE ON keyring.api_tokens FOR EACH ROW EXECUTE FUNCTION keyring.guard_api_token();
create policy keyring_auditor on keyring.api_tokens for select to keyring_auditor using (true);
create policy keyring_roles on keyring.api_tokens for all to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_user on keyring.api_tokens for select to keyring_user using ((project_ids <@ ( SELECT keyring.projects_of_principal() AS projects_of_principal)));
comment on table keyring.api_tokens is 'What a token may do, and its SHA-256. The token itself was shown once and is nowhere';
comment on column keyring.api_tokens.project_ids is 'Null: in all projects';
comment on column keyring.api_tokens.person is 'Who is answerable for it: the rule of two people takes it for this person';
grant insert, select on table keyring.api_tokens to keyring_service;
grant select on column keyring.api_tokens.id to keyring_auditor;
grant select on column keyring.api_tokens.id to keyring_user;
grant select on column keyring.api_tokens.name to keyring_auditor;
grant select on column keyring.api_tokens.name to keyring_user;
grant select on column keyring.api_tokens.role to keyring_auditor;
grant select on column keyring.api_tokens.role to keyring_user;
grant select on column keyring.api_tokens.permissions to keyring_auditor;
grant select on column keyring.api_tokens.permissions to keyring_user;
grant select on column keyring.api_tokens.project_ids to keyring_auditor;
grant select on column keyring.api_tokens.project_ids to keyring_user;
grant select on column keyring.api_tokens.person to keyring_auditor;
grant select on column keyring.api_tokens.person to keyring_user;
grant select on column keyring.api_tokens.created_by to keyring_auditor;
grant select on column keyring.api_tokens.created_by to keyring_user;
grant select on column keyring.api_tokens.created_at to keyring_auditor;
grant select on column keyring.api_tokens.created_at to keyring_user;
grant select on column keyring.api_tokens.expires_at to keyring_auditor;
grant select on column keyring.api_tokens.expires_at to keyring_user;
grant select on column keyring.api_tokens.last_used_at to keyring_auditor;
grant select on column keyring.api_tokens.last_used_at to keyring_user;
grant update on column keyring.api_tokens.last_used_at to keyring_service;
grant select on column keyring.api_tokens.revoked_at to keyring_auditor;
grant select on column keyring.api_tokens.revoked_at to keyring_user;
grant update on column keyring.api_tokens.revoked_at to keyring_service;
grant select on column keyring.api_tokens.revoked_by to keyring_auditor;
grant select on column keyring.api_tokens.revoked_by to keyring_user;
grant update on column keyring.api_tokens.revoked_by to keyring_service;

create table keyring.approvals (
  id uuid not null default gen_random_uuid(),
  action text not null,
  subject text not null,
  project_id uuid,
  reason text,
  state text not null,
  requested_by text not null,
  requester text not null,
  requested_at timestamp with time zone not null default clock_timestamp(),
  expires_at timestamp with time zone not null default (clock_timestamp() + '24:00:00'::interval),
  decided_by text,
  decider text,
  decided_at timestamp with time zone,
  consumed_at timestamp with time zone,
  consumed_in xid8,
  constraint approvals_action_check CHECK ((action = ANY (ARRAY['key.destroy_early'::text, 'retention.shorten'::text, 'quarantine.discard'::text, 'admin.grant'::text, 'admin.remove'::text, 'rule.switch_off'::text]))),
  constraint approvals_decided_by_check CHECK (((length(decided_by) >= 1) AND (length(decided_by) <= 200))),
  constraint approvals_decider_check CHECK (((length(decider) >= 1) AND (length(decider) <= 200))),
  constraint approvals_pkey PRIMARY KEY (id),
  constraint approvals_reason_check CHECK ((length(reason) <= 1000)),
  constraint approvals_requested_by_check CHECK (((length(requested_by) >= 1) AND (length(requested_by) <= 200))),
  constraint approvals_requester_check CHECK (((length(requester) >= 1) AND (length(requester) <= 200))),
  constraint approvals_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'approved'::text, 'rejected'::text, 'consumed'::text, 'waived'::text]))),
  constraint approvals_subject_check CHECK (((length(subject) >= 1) AND (length(subject) <= 400)))
);
alter table keyring.approvals owner to keyring_owner;
alter table keyring.approvals enable row level security;
alter table keyring.approvals force row level security;
CREATE INDEX approvals_by_time ON keyring.approvals USING btree (requested_at DESC, id DESC);
CREATE UNIQUE INDEX one_open_approval ON keyring.approvals USING btree (action, subject, requester) WHERE (state = ANY (ARRAY['pending'::text, 'approved'::text]));
CREATE TRIGGER guard_approval BEFORE INSERT OR UPDATE ON keyring.approvals FOR EACH ROW EXECUTE FUNCTION keyring.guard_approval();
create policy keyring_auditor on keyring.approvals for select to keyring_auditor using (true);
create policy keyring_roles on keyring.approvals for all to keyring_owner, keyring_service using (true) with check (true);
comment on column keyring.approvals.requester is 'The person who asked, whichever token or session it was done with. requested_by is the actor';
comment on column keyring.approvals.consumed_in is 'The transaction that did what was approved';
grant select on table keyring.approvals to keyring_auditor;
grant select on table keyring.approvals to keyring_service;
grant insert on column keyring.approvals.action to keyring_service;
grant insert on column keyring.approvals.subject to keyring_service;
grant insert on column keyring.approvals.project_id to keyring_service;
grant insert on column keyring.approvals.reason to keyring_service;
grant insert, update on column keyring.approvals.state to keyring_service;
grant insert on column keyring.approvals.requested_by to keyring_service;
grant insert on column keyring.approvals.requester to keyring_service;
grant update on column keyring.approvals.decided_by to keyring_service;
grant update on column keyring.approvals.decider to keyring_service;
grant update on column keyring.approvals.decided_at to keyring_service;
grant update on column keyring.approvals.consumed_at to keyring_service;
grant update on column keyring.approvals.consumed_in to keyring_service;

create table keyring.audit_archives (
  through bigint not null,
  note text not null,
  transaction_id xid8 not null default pg_current_xact_id(),
  archived_at timestamp with time zone not null default clock_timestamp(),
  constraint audit_archives_note_check CHECK (((length(note) >= 1) AND (length(note) <= 2000))),
  constraint audit_archives_pkey PRIMARY KEY (through),
  constraint audit_archives_through_check CHECK ((through > 0))
);
alter table keyring.audit_archives owner to keyring_owner;
alter table keyring.audit_archives enable row level security;
alter table keyring.audit_archives force row level security;
CREATE TRIGGER audit_is_append_only BEFORE DELETE OR UPDATE ON keyring.audit_archives FOR EACH ROW EXECUTE FUNCTION keyring.refuse_audit_change();
CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON keyring.audit_archives FOR EACH STATEMENT EXECUTE FUNCTION keyring.refuse_audit_change();
create policy keyring_append on keyring.audit_archives for insert to keyring_owner with check (true);
create policy keyring_roles on keyring.audit_archives for select to keyring_owner, keyring_service using (true);
create policy keyring_user on keyring.audit_archives for select to keyring_user using (true);
comment on table keyring.audit_archives is 'Up to which place the trail went into a file, and was removed here; signed';
grant select on table keyring.audit_archives to keyring_service;
grant select on column keyring.audit_archives.through to keyring_user;
grant select on column keyring.audit_archives.archived_at to keyring_user;

create table keyring.audit_checkpoints (
  id bigint not null generated always as identity,
  size bigint not null,
  floor_id bigint not null,
  note text not null,
  signing_key_id uuid not null,
  mark_id bigint,
  mark_xid xid8,
  signed_at timestamp with time zone not null default clock_timestamp(),
  constraint audit_checkpoints_check CHECK (((mark_id IS NULL) = (mark_xid IS NULL))),
  constraint audit_checkpoints_note_check CHECK (((length(note) >= 1) AND (length(note) <= 2000))),
  constraint audit_checkpoints_pkey PRIMARY KEY (id),
  constraint audit_checkpoints_signing_key_id_fkey FOREIGN KEY (signing_key_id) REFERENCES keyring.signing_keys(id),
  constraint audit_checkpoints_size_check CHECK ((size > 0))
);
alter table keyring.audit_checkpoints owner to keyring_owner;
alter table keyring.audit_checkpoints enable row level security;
alter table keyring.audit_checkpoints force row level security;
CREATE INDEX audit_checkpoints_size ON keyring.audit_checkpoints USING btree (size);
CREATE TRIGGER audit_is_append_only BEFORE DELETE OR UPDATE ON keyring.audit_checkpoints FOR EACH ROW EXECUTE FUNCTION keyring.refuse_audit_change();
CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON keyring.audit_checkpoints FOR EACH STATEMENT EXECUTE FUNCTION keyring.refuse_audit_change();
CREATE TRIGGER guard_audit_checkpoint BEFORE INSERT ON keyring.audit_checkpoints FOR EACH ROW EXECUTE FUNCTION keyring.guard_audit_checkpoint();
create policy keyring_append on keyring.audit_checkpoints for insert to keyring_owner, keyring_service with check (true);
create policy keyring_archive on keyring.audit_checkpoints for delete to keyring_owner using (true);
create policy keyring_roles on keyring.audit_checkpoints for select to keyring_owner, keyring_service using (true);
create policy keyring_user on keyring.audit_checkpoints for select to keyring_user using (true);
comment on table keyring.audit_checkpoints is 'How long the chain was, and its head, signed: a C2SP signed note each';
comment on column keyring.audit_checkpoints.floor_id is 'Every entry up to this id has its place: no transaction is left that could bring another one';
comment on column keyring.audit_checkpoints.mark_id is 'The next floor, once every transaction up to mark_xid is over. Null: the floor is the last entry';
grant select on table keyring.audit_checkpoints to keyring_service;
grant insert on column keyring.audit_checkpoints.size to keyring_service;
grant select on column keyring.audit_checkpoints.size to keyring_user;
grant insert on column keyring.audit_checkpoints.floor_id to keyring_service;
grant insert on column keyring.audit_checkpoints.note to keyring_service;
grant insert on column keyring.audit_checkpoints.signing_key_id to keyring_service;
grant insert on column keyring.audit_checkpoints.mark_id to keyring_service;
grant insert on column keyring.audit_checkpoints.mark_xid to keyring_service;
grant select on column keyring.audit_checkpoints.signed_at to keyring_user;

create table keyring.audit_log (
  id bigint not null generated always as identity,
  at timestamp with time zone not null default clock_timestamp(),
  actor text not null,
  action text not null,
  outcome text not null,
  project_id uuid,
  subject text not null,
  reason text,
  details jsonb not null default '{}'::jsonb,
  principal_kind text,
  source_address text,
  constraint audit_log_action_check CHECK ((action ~ '^[a-z_]+\.[a-z_]+$'::text)),
  constraint audit_log_actor_check CHECK (((length(actor) >= 1) AND (length(actor) <= 200))),
  constraint audit_log_outcome_check CHECK ((outcome = ANY (ARRAY['succeeded'::text, 'failed'::text, 'refused'::text]))),
  constraint audit_log_pkey PRIMARY KEY (id),
  constraint audit_log_principal_kind_check CHECK ((principal_kind = ANY (ARRAY['user'::text, 'token'::text, 'session'::text, 'cli'::text, 'service'::text, 'worker'::text, 'system'::text]))),
  constraint audit_log_reason_check CHECK ((length(reason) <= 1000)),
  constraint audit_log_source_address_check CHECK (((length(source_address) >= 1) AND (length(source_address) <= 100))),
  constraint audit_log_subject_check CHECK (((length(subject) >= 1) AND (length(subject) <= 400)))
);
alter table keyring.audit_log owner to keyring_owner;
alter table keyring.audit_log enable row level security;
alter table keyring.audit_log force row level security;
CREATE INDEX audit_log_project ON keyring.audit_log USING btree (project_id, id);
CREATE TRIGGER audit_log_begins BEFORE INSERT ON keyring.audit_log FOR EACH STATEMENT WHEN (pg_current_xact_id() IS NULL) EXECUTE FUNCTION keyring.begin_audit_entry();
CREATE TRIGGER audit_log_is_append_only BEFORE DELETE OR UPDATE ON keyring.audit_log FOR EACH ROW EXECUTE FUNCTION keyring.refuse_audit_change();
CREATE TRIGGER audit_log_is_not_truncated BEFORE TRUNCATE ON keyring.audit_log FOR EACH STATEMENT EXECUTE FUNCTION keyring.refuse_audit_change();
CREATE TRIGGER note_notification AFTER INSERT ON keyring.audit_log FOR EACH ROW WHEN ((new.action = ANY (ARRAY['rotation.completed'::text, 'rotation.failed'::text, 'rotation.blocked'::text, 'rotation.overdue'::text, 'key.compromised'::text, 'approval.requested'::text])) AND new.outcome <> 'refused'::text) EXECUTE FUNCTION keyring.note_notification();
create policy keyring_append on keyring.audit_log for insert to keyring_owner, keyring_service with check (true);
create policy keyring_archive on keyring.audit_log for delete to keyring_owner using (true);
create policy keyring_auditor on keyring.audit_log for select to keyring_auditor using (true);
create policy keyring_roles on keyring.audit_log for select to keyring_owner, keyring_service using (true);
create policy keyring_user on keyring.audit_log for select to keyring_user using ((project_id IN ( SELECT unnest(keyring.projects_of_principal()) AS unnest)));
comment on column keyring.audit_log.subject is 'What it was done to, as kind:id (project:…, key:…, secret:…, rotation:…)';
comment on column keyring.audit_log.principal_kind is 'What the actor is. Null: written before kinds were';
comment on column keyring.audit_log.source_address is 'Where the request came from, as far as it was told';
grant select on table keyring.audit_log to keyring_auditor;
grant select on table keyring.audit_log to keyring_service;
grant select on table keyring.audit_log to keyring_user;
grant insert on column keyring.audit_log.actor to keyring_service;
grant insert on column keyring.audit_log.action to keyring_service;
grant insert on column keyring.audit_log.outcome to keyring_service;
grant insert on column keyring.audit_log.project_id to keyring_service;
grant insert on column keyring.audit_log.subject to keyring_service;
grant insert on column keyring.audit_log.reason to keyring_service;
grant insert on column keyring.audit_log.details to keyring_service;
grant insert on column keyring.audit_log.principal_kind to keyring_service;
grant insert on column keyring.audit_log.source_address to keyring_service;

create table keyring.audit_sealer (
  one boolean not null default true,
  constraint audit_sealer_one_check CHECK (one),
  constraint audit_sealer_pkey PRIMARY KEY (one)
);
alter table keyring.audit_sealer owner to keyring_owner;
alter table keyring.audit_sealer enable row level security;
alter table keyring.audit_sealer force row level security;
create policy keyring_hold on keyring.audit_sealer for update to keyring_owner, keyring_service using (true) with check (one);
create policy keyring_roles on keyring.audit_sealer for select to keyring_owner, keyring_service using (true);
comment on table keyring.audit_sealer is 'Locked by who seals, for as long as the transaction takes';
grant select on table keyring.audit_sealer to keyring_service;
grant update on column keyring.audit_sealer.one to keyring_service;

create table keyring.audit_seals (
  place bigint not null,
  entry_id bigint not null,
  hash bytea not null,
  constraint audit_seals_entry_id_key UNIQUE (entry_id),
  constraint audit_seals_hash_check CHECK ((octet_length(hash) = 32)),
  constraint audit_seals_pkey PRIMARY KEY (place),
  constraint audit_seals_place_check CHECK ((place > 0))
);
alter table keyring.audit_seals owner to keyring_owner;
alter table keyring.audit_seals enable row level security;
alter table keyring.audit_seals force row level security;
CREATE TRIGGER audit_is_append_only BEFORE DELETE OR UPDATE ON keyring.audit_seals FOR EACH ROW EXECUTE FUNCTION keyring.refuse_audit_change();
CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON keyring.audit_seals FOR EACH STATEMENT EXECUTE FUNCTION keyring.refuse_audit_change();
CREATE TRIGGER guard_audit_seals AFTER INSERT ON keyring.audit_seals REFERENCING NEW TABLE AS sealed FOR EACH STATEMENT EXECUTE FUNCTION keyring.guard_audit_seals();
create policy keyring_append on keyring.audit_seals for insert to keyring_owner, keyring_service with check (true);
create policy keyring_archive on keyring.audit_seals for delete to keyring_owner using (true);
create policy keyring_roles on keyring.audit_seals for select to keyring_owner, keyring_service using (true);
comment on table keyring.audit_seals is 'The place of each entry in the chain, and the head of the chain there';
grant insert, select on table keyring.audit_seals to keyring_service;

create table keyring.audit_verifications (
  scope text not null,
  verifier uuid,
  begun_at timestamp with time zone,
  begun_after bigint,
  "position" text,
  verified_at timestamp with time zone,
  verified_by text,
  verified_after bigint,
  verified_through bigint,
  given text,
  problem jsonb,
  constraint audit_verifications_check CHECK (((verified_at IS NULL) = (verified_by IS NULL))),
  constraint audit_verifications_given_check CHECK ((given = ANY (ARRAY['matches'::text, 'archived'::text]))),
  constraint audit_verifications_pkey PRIMARY KEY (scope),
  constraint audit_verifications_position_check CHECK (((length("position") >= 1) AND (length("position") <= 2000))),
  constraint audit_verifications_scope_check CHECK ((scope = ANY (ARRAY['recent'::text, 'whole'::text]))),
  constraint audit_verifications_verified_by_check CHECK (((length(verified_by) >= 1) AND (length(verified_by) <= 200)))
) with (fillfactor=50);
alter table keyring.audit_verifications owner to keyring_owner;
alter table keyring.audit_verifications enable row level security;
alter table keyring.audit_verifications force row level security;
create policy keyring_note on keyring.audit_verifications for update to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.audit_verifications for select to keyring_owner, keyring_service using (true);
comment on table keyring.audit_verifications is 'The last verification of what is new in the trail and of all of it, and the one that is under way';
comment on column keyring.audit_verifications."position" is 'The note of the checkpoint up to which all was verified, of what is under way or else of the last';
comment on column keyring.audit_verifications.problem is 'What a verification found. Stands until one of the whole trail finds nothing';
grant select on table keyring.audit_verifications to keyring_service;
grant update on column keyring.audit_verifications.verifier to keyring_service;
grant update on column keyring.audit_verifications.begun_at to keyring_service;
grant update on column keyring.audit_verifications.begun_after to keyring_service;
grant update on column keyring.audit_verifications."position" to keyring_service;
grant update on column keyring.audit_verifications.verified_at to keyring_service;
grant update on column keyring.audit_verifications.verified_by to keyring_service;
grant update on column keyring.audit_verifications.verified_after to keyring_service;
grant update on column keyring.audit_verifications.verified_through to keyring_service;
grant update on column keyring.audit_verifications.given to keyring_service;
grant update on column keyring.audit_verifications.problem to keyring_service;

create view keyring.due_projects (
  project_id uuid,
  key_id uuid,
  by_age boolean,
  due_at timestamp with time zone,
  by_usage boolean
) with (security_invoker=true) as
 SELECT project_id,
    key_id,
    by_age,
    due_at,
    by_usage
   FROM ( SELECT s.project_id,
            s.key_id,
            s.due_at <= now() AS by_age,
            s.due_at,
            s.promoted_at,
            s.encryptions >= s.max_encryptions AND (s.promoted_at <= (now() - '01:00:00'::interval) OR s.encryptions >= '3865470566'::bigint) AS by_usage
           FROM keyring.scheduled_projects s
          WHERE s.enabled) d
  WHERE (by_age OR by_usage) AND COALESCE(keyring.not_asked_before(project_id, promoted_at), '-infinity'::timestamp with time zone) <= now();
alter view keyring.due_projects owner to keyring_owner;
comment on view keyring.due_projects is 'Projects whose primary version is due by age or has encrypted too often for its policy, quiet hours or not. Not for a while after a rotation of the project did not complete (not_asked_before). By use not in the first hour of a primary version, whose limit may be less than its own sweep needs, unless it reached 0.9 × 2^32';
grant select on view keyring.due_projects to keyring_service;

create table keyring.encrypted_columns (
  label text not null,
  table_id regclass not null,
  row_id_column name not null,
  project_column name not null,
  ciphertext_column name not null,
  key_id_column name not null,
  accepts_plaintext boolean not null default false,
  registered_at timestamp with time zone not null default now(),
  constraint encrypted_columns_label_check CHECK (((label ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$'::text) AND (label !~ '__'::text) AND (length(replace(label, '.'::text, '__'::text)) <= 39))),
  constraint encrypted_columns_pkey PRIMARY KEY (label),
  constraint encrypted_columns_table_id_ciphertext_column_key UNIQUE (table_id, ciphertext_column),
  constraint encrypted_columns_table_id_key_id_column_key UNIQUE (table_id, key_id_column)
);
alter table keyring.encrypted_columns owner to keyring_owner;
alter table keyring.encrypted_columns enable row level security;
alter table keyring.encrypted_columns force row level security;
CREATE TRIGGER check_row_id_type BEFORE INSERT OR UPDATE ON keyring.encrypted_columns FOR EACH ROW EXECUTE FUNCTION keyring.check_row_id_type();
create policy keyring_read on keyring.encrypted_columns for select to keyring_service using (true);
create policy keyring_roles on keyring.encrypted_columns for all to keyring_owner using (true) with check (true);
comment on column keyring.encrypted_columns.label is 'Frozen: it is part of the associated data, so that renaming or partitioning the table keeps its rows readable';
comment on column keyring.encrypted_columns.accepts_plaintext is 'True only while old plaintext rows are being adopted; `secrets adopt --finish` ends that for good';
grant select on table keyring.encrypted_columns to keyring_service;

create table keyring.encryption_keys (
  id uuid not null,
  project_id uuid not null,
  version integer not null,
  state text not null default 'enabled'::text,
  algorithm text not null default 'AES-256-GCM'::text,
  wrapped_key bytea,
  wrapping_key_id uuid not null,
  fingerprint bytea not null,
  created_at timestamp with time zone not null default now(),
  activated_at timestamp with time zone,
  deactivated_at timestamp with time zone,
  disabled_at timestamp with time zone,
  compromised_at timestamp with time zone,
  rolled_back_at timestamp with time zone,
  retention_until timestamp with time zone,
  destroyed_at timestamp with time zone,
  constraint compromised_has_a_time CHECK (((state = 'compromised'::text) <= (compromised_at IS NOT NULL))),
  constraint compromised_time_means_so CHECK (((compromised_at IS NULL) OR (state = ANY (ARRAY['compromised'::text, 'destroyed'::text])))),
  constraint destroyed_has_a_time CHECK (((state = 'destroyed'::text) = (destroyed_at IS NOT NULL))),
  constraint destroyed_means_erased CHECK (((state = 'destroyed'::text) = (wrapped_key IS NULL))),
  constraint disabled_has_a_time CHECK (((state = 'disabled'::text) <= (disabled_at IS NOT NULL))),
  constraint encryption_keys_algorithm_check CHECK ((algorithm = 'AES-256-GCM'::text)),
  constraint encryption_keys_fingerprint_check CHECK ((octet_length(fingerprint) = 32)),
  constraint encryption_keys_pkey PRIMARY KEY (id),
  constraint encryption_keys_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE,
  constraint encryption_keys_project_id_id_key UNIQUE (project_id, id),
  constraint encryption_keys_project_id_version_key UNIQUE (project_id, version),
  constraint encryption_keys_state_check CHECK ((state = ANY (ARRAY['enabled'::text, 'disabled'::text, 'compromised'::text, 'destroyed'::text]))),
  constraint encryption_keys_version_check CHECK ((version > 0)),
  constraint encryption_keys_wrapped_key_check CHECK ((octet_length(wrapped_key) = 78)),
  constraint encryption_keys_wrapping_key_id_fkey FOREIGN KEY (wrapping_key_id) REFERENCES keyring.wrapping_keys(id) DEFERRABLE INITIALLY DEFERRED
) with (fillfactor=50);
alter table keyring.encryption_keys owner to keyring_owner;
alter table keyring.encryption_keys enable row level security;
alter table keyring.encryption_keys force row level security;
CREATE INDEX encryption_keys_unusual ON keyring.encryption_keys USING btree (project_id, version) WHERE (state = ANY (ARRAY['disabled'::text, 'compromised'::text]));
CREATE TRIGGER encryption_keys_are_not_truncated BEFORE TRUNCATE ON keyring.encryption_keys FOR EACH STATEMENT EXECUTE FUNCTION keyring.refuse_truncate();
CREATE TRIGGER guard_encryption_key BEFORE UPDATE ON keyring.encryption_keys FOR EACH ROW WHEN (old.state = 'destroyed'::text OR new.id IS DISTINCT FROM old.id OR new.project_id IS DISTINCT FROM old.project_id OR new.version IS DISTINCT FROM old.version OR new.algorithm IS DISTINCT FROM old.algorithm OR new.fingerprint IS DISTINCT FROM old.fingerprint OR new.created_at IS DISTINCT FROM old.created_at OR new.state IS DISTINCT FROM old.state OR new.compromised_at IS DISTINCT FROM old.compromised_at OR new.rolled_back_at IS DISTINCT FROM old.rolled_back_at OR new.retention_until IS DISTINCT FROM old.retention_until) EXECUTE FUNCTION keyring.guard_encryption_key();
CREATE TRIGGER guard_encryption_key_end BEFORE DELETE ON keyring.encryption_keys FOR EACH ROW EXECUTE FUNCTION keyring.guard_encryption_key();
CREATE TRIGGER guard_key_ends_after AFTER UPDATE OF destroyed_at ON keyring.encryption_keys FOR EACH STATEMENT EXECUTE FUNCTION keyring.guard_key_ends();
CREATE TRIGGER guard_key_ends_before BEFORE UPDATE OF destroyed_at ON keyring.encryption_keys FOR EACH STATEMENT EXECUTE FUNCTION keyring.guard_key_ends();
CREATE TRIGGER keyring_fence_insert AFTER INSERT ON keyring.encryption_keys REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION keyring.fence_wrapped_keys();
CREATE TRIGGER keyring_fence_update AFTER UPDATE ON keyring.encryption_keys REFERENCING OLD TABLE AS replaced NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION keyring.fence_wrapped_keys();
create policy keyring_auditor on keyring.encryption_keys for select to keyring_auditor using (true);
create policy keyring_roles on keyring.encryption_keys for all to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_user on keyring.encryption_keys for select to keyring_user using ((project_id IN ( SELECT unnest(keyring.projects_of_principal()) AS unnest)));
comment on column keyring.encryption_keys.wrapped_key is 'The key in an envelope under wrapping_key_id; null once destroyed';
comment on column keyring.encryption_keys.fingerprint is 'Key check value (HKDF), verified at every unwrap; kept for ever';
comment on column keyring.encryption_keys.retention_until is 'Fixed when the version is retired; destroy is refused before it';
grant insert, select on table keyring.encryption_keys to keyring_service;
grant select on column keyring.encryption_keys.id to keyring_auditor;
grant select on column keyring.encryption_keys.id to keyring_user;
grant select on column keyring.encryption_keys.project_id to keyring_auditor;
grant select on column keyring.encryption_keys.project_id to keyring_user;
grant select on column keyring.encryption_keys.version to keyring_auditor;
grant select on column keyring.encryption_keys.version to keyring_user;
grant select on column keyring.encryption_keys.state to keyring_auditor;
grant select on column keyring.encryption_keys.state to keyring_user;
grant update on column keyring.encryption_keys.state to keyring_service;
grant select on column keyring.encryption_keys.algorithm to keyring_auditor;
grant select on column keyring.encryption_keys.algorithm to keyring_user;
grant update on column keyring.encryption_keys.wrapped_key to keyring_service;
grant select on column keyring.encryption_keys.wrapping_key_id to keyring_auditor;
grant select on column keyring.encryption_keys.wrapping_key_id to keyring_user;
grant update on column keyring.encryption_keys.wrapping_key_id to keyring_service;
grant select on column keyring.encryption_keys.fingerprint to keyring_auditor;
grant select on column keyring.encryption_keys.fingerprint to keyring_user;
grant select on column keyring.encryption_keys.created_at to keyring_auditor;
grant select on column keyring.encryption_keys.created_at to keyring_user;
grant select on column keyring.encryption_keys.activated_at to keyring_auditor;
grant select on column keyring.encryption_keys.activated_at to keyring_user;
grant select on column keyring.encryption_keys.deactivated_at to keyring_auditor;
grant select on column keyring.encryption_keys.deactivated_at to keyring_user;
grant select on column keyring.encryption_keys.disabled_at to keyring_auditor;
grant select on column keyring.encryption_keys.disabled_at to keyring_user;
grant update on column keyring.encryption_keys.disabled_at to keyring_service;
grant select on column keyring.encryption_keys.compromised_at to keyring_auditor;
grant select on column keyring.encryption_keys.compromised_at to keyring_user;
grant update on column keyring.encryption_keys.compromised_at to keyring_service;
grant select on column keyring.encryption_keys.rolled_back_at to keyring_auditor;
grant select on column keyring.encryption_keys.rolled_back_at to keyring_user;
grant update on column keyring.encryption_keys.rolled_back_at to keyring_service;
grant select on column keyring.encryption_keys.retention_until to keyring_auditor;
grant select on column keyring.encryption_keys.retention_until to keyring_user;
grant update on column keyring.encryption_keys.retention_until to keyring_service;
grant select on column keyring.encryption_keys.destroyed_at to keyring_auditor;
grant select on column keyring.encryption_keys.destroyed_at to keyring_user;
grant update on column keyring.encryption_keys.destroyed_at to keyring_service;

create table keyring.grants (
  id uuid not null default gen_random_uuid(),
  person text not null,
  role text not null,
  project_id uuid,
  reason text,
  granted_by text not null,
  granted_at timestamp with time zone not null default clock_timestamp(),
  constraint grants_check CHECK (((role <> 'instance_admin'::text) OR (project_id IS NULL))),
  constraint grants_granted_by_check CHECK (((length(granted_by) >= 1) AND (length(granted_by) <= 200))),
  constraint grants_person_check CHECK (((person = 'operator'::text) OR (person ~ '^user:[0-9a-f-]{36}$'::text) OR (person ~ '^person:[a-z0-9._@-]{1,100}$'::text))),
  constraint grants_person_role_project_id_key UNIQUE NULLS NOT DISTINCT (person, role, project_id),
  constraint grants_pkey PRIMARY KEY (id),
  constraint grants_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE,
  constraint grants_reason_check CHECK ((length(reason) <= 1000)),
  constraint grants_role_check CHECK ((role = ANY (ARRAY['instance_admin'::text, 'project_admin'::text, 'auditor'::text, 'service'::text])))
);
alter table keyring.grants owner to keyring_owner;
alter table keyring.grants enable row level security;
alter table keyring.grants force row level security;
CREATE INDEX grants_project ON keyring.grants USING btree (project_id) WHERE (project_id IS NOT NULL);
CREATE TRIGGER guard_admins BEFORE INSERT OR DELETE ON keyring.grants FOR EACH ROW EXECUTE FUNCTION keyring.guard_admins();
create policy keyring_auditor on keyring.grants for select to keyring_auditor using (true);
create policy keyring_roles on keyring.grants for all to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_user on keyring.grants for select to keyring_user using ((project_id IN ( SELECT unnest(keyring.projects_of_principal()) AS unnest)));
comment on table keyring.grants is 'Which person has which role, in a project or (null) in all of them. The owner of a project is not here: projects.owner says it';
grant delete, insert, select on table keyring.grants to keyring_service;
grant select on table keyring.grants to keyring_auditor;
grant select on table keyring.grants to keyring_user;

create table keyring.idempotency_keys (
  key_digest bytea not null,
  request_digest bytea not null,
  rotation_id uuid not null,
  created_at timestamp with time zone not null default now(),
  constraint idempotency_keys_key_digest_check CHECK ((octet_length(key_digest) = 32)),
  constraint idempotency_keys_pkey PRIMARY KEY (key_digest),
  constraint idempotency_keys_request_digest_check CHECK ((octet_length(request_digest) = 32)),
  constraint idempotency_keys_rotation_id_fkey FOREIGN KEY (rotation_id) REFERENCES keyring.rotations(id) ON DELETE CASCADE
);
alter table keyring.idempotency_keys owner to keyring_owner;
alter table keyring.idempotency_keys enable row level security;
alter table keyring.idempotency_keys force row level security;
CREATE INDEX idempotency_keys_by_age ON keyring.idempotency_keys USING btree (created_at);
create policy keyring_roles on keyring.idempotency_keys for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.idempotency_keys is 'Kept for 24 hours; older ones go, a few at each request';
comment on column keyring.idempotency_keys.key_digest is 'SHA-256 over who asked and what they called the request';
comment on column keyring.idempotency_keys.request_digest is 'SHA-256 over what was asked for';
grant delete, insert, select, update on table keyring.idempotency_keys to keyring_service;

create table keyring.installation (
  singleton boolean not null default true,
  wrapping_key_id uuid not null,
  created_at timestamp with time zone not null default now(),
  id uuid not null default gen_random_uuid(),
  constraint installation_pkey PRIMARY KEY (singleton),
  constraint installation_singleton_check CHECK (singleton),
  constraint installation_wrapping_key_id_fkey FOREIGN KEY (wrapping_key_id) REFERENCES keyring.wrapping_keys(id)
);
alter table keyring.installation owner to keyring_owner;
alter table keyring.installation enable row level security;
alter table keyring.installation force row level security;
CREATE TRIGGER guard_installation BEFORE INSERT OR DELETE OR UPDATE ON keyring.installation FOR EACH ROW EXECUTE FUNCTION keyring.guard_installation();
CREATE TRIGGER keys_are_not_truncated BEFORE TRUNCATE ON keyring.installation FOR EACH STATEMENT EXECUTE FUNCTION keyring.refuse_truncate();
create policy keyring_roles on keyring.installation for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.installation is 'One row: the pointer to the wrapping key that wraps new data keys';
comment on column keyring.installation.id is 'Names the installation; copies of its database have the same';
grant insert, select on table keyring.installation to keyring_service;
grant update on column keyring.installation.wrapping_key_id to keyring_service;

create table keyring.instances (
  id uuid not null,
  host text not null,
  pid integer not null,
  actor text not null,
  version text not null,
  started_at timestamp with time zone not null default now(),
  seen_at timestamp with time zone not null default now(),
  usable_roots text[] not null default '{}'::text[],
  wrapping_keys uuid[] not null default '{}'::uuid[],
  troubles text[] not null default '{}'::text[],
  constraint instances_actor_check CHECK (((length(actor) >= 1) AND (length(actor) <= 200))),
  constraint instances_host_check CHECK (((length(host) >= 1) AND (length(host) <= 255))),
  constraint instances_pkey PRIMARY KEY (id),
  constraint instances_version_check CHECK (((length(version) >= 1) AND (length(version) <= 100)))
) with (fillfactor=50);
alter table keyring.instances owner to keyring_owner;
alter table keyring.instances enable row level security;
alter table keyring.instances force row level security;
create policy keyring_roles on keyring.instances for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.instances is 'One row a process. Gone when it closes its keyring, or an hour after it was last seen';
comment on column keyring.instances.usable_roots is 'Fingerprints of root keys through which it has unwrapped a wrapping key';
comment on column keyring.instances.wrapping_keys is 'Ids of the wrapping keys that it holds unwrapped';
comment on column keyring.instances.troubles is 'Root keys it was given and cannot use: where, and the code of the error. No credential';
grant delete, insert, select, update on table keyring.instances to keyring_service;

create view keyring.key_inventory (
  key_id uuid,
  project_id uuid,
  project_name text,
  version integer,
  status text,
  active boolean,
  created_at timestamp with time zone,
  activated_at timestamp with time zone,
  deactivated_at timestamp with time zone,
  retention_until timestamp with time zone,
  destroyed_at timestamp with time zone,
  rows_naming bigint
) with (security_invoker=true) as
 SELECT k.id AS key_id,
    k.project_id,
    p.name AS project_name,
    k.version,
        CASE
            WHEN k.state = 'destroyed'::text THEN 'destroyed'::text
            WHEN k.state = 'compromised'::text THEN 'compromised'::text
            WHEN k.state = 'disabled'::text THEN 'suspended'::text
            WHEN r.primary_key_id = k.id THEN 'active'::text
            WHEN k.activated_at IS NULL THEN 'pre-activation'::text
            ELSE 'deactivated'::text
        END AS status,
    COALESCE(r.primary_key_id = k.id, false) AS active,
    k.created_at,
    k.activated_at,
    k.deactivated_at,
    k.retention_until,
    k.destroyed_at,
    COALESCE(n.rows_naming, 0::numeric)::bigint AS rows_naming
   FROM keyring.encryption_keys k
     JOIN public.projects p ON p.id = k.project_id
     LEFT JOIN keyring.keyrings r ON r.project_id = k.project_id
     LEFT JOIN ( SELECT c.encryption_key_id,
            sum(c.row_count) AS rows_naming
           FROM keyring.reference_counts() c(project_id, encryption_key_id, label, row_count)
          GROUP BY c.encryption_key_id) n ON n.encryption_key_id = k.id;
alter view keyring.key_inventory owner to keyring_owner;
comment on view keyring.key_inventory is 'Every key version with its status as people read it (NIST SP 800-57)';
grant select on view keyring.key_inventory to keyring_service;

create table keyring.key_usage (
  key_id uuid not null,
  project_id uuid not null,
  reserved bigint not null,
  last_used_at timestamp with time zone,
  constraint key_usage_pkey PRIMARY KEY (key_id),
  constraint key_usage_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE,
  constraint key_usage_reserved_check CHECK ((reserved >= 0))
) with (fillfactor=50);
alter table keyring.key_usage owner to keyring_owner;
alter table keyring.key_usage enable row level security;
alter table keyring.key_usage force row level security;
CREATE TRIGGER guard_key_usage BEFORE UPDATE ON keyring.key_usage FOR EACH ROW EXECUTE FUNCTION keyring.guard_key_usage();
create policy keyring_roles on keyring.key_usage for all to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_user on keyring.key_usage for select to keyring_user using ((project_id IN ( SELECT unnest(keyring.projects_of_principal()) AS unnest)));
comment on table keyring.key_usage is 'No foreign key to encryption_keys: those are of columns with ciphertext, and the registry is checked against them';
comment on column keyring.key_usage.reserved is 'Encryptions that processes may have made; at most one block a process too many';
comment on column keyring.key_usage.last_used_at is 'Last reserved for encryptions, or used by a reader or a writer, to the hour; null: not since this is kept';
grant insert, select, update on table keyring.key_usage to keyring_service;
grant select on table keyring.key_usage to keyring_user;

create table keyring.keyrings (
  project_id uuid not null,
  primary_key_id uuid not null,
  created_at timestamp with time zone not null default now(),
  promoted_at timestamp with time zone not null default now(),
  primary_made_at timestamp with time zone,
  constraint keyrings_pkey PRIMARY KEY (project_id),
  constraint keyrings_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE,
  constraint keyrings_project_id_primary_key_id_fkey FOREIGN KEY (project_id, primary_key_id) REFERENCES keyring.encryption_keys(project_id, id)
) with (fillfactor=50);
alter table keyring.keyrings owner to keyring_owner;
alter table keyring.keyrings enable row level security;
alter table keyring.keyrings force row level security;
CREATE INDEX keyrings_by_age ON keyring.keyrings USING btree (primary_made_at, project_id);
CREATE TRIGGER guard_keyring BEFORE INSERT OR UPDATE ON keyring.keyrings FOR EACH ROW EXECUTE FUNCTION keyring.guard_keyring();
CREATE TRIGGER note_keyring_end BEFORE DELETE ON keyring.keyrings FOR EACH ROW EXECUTE FUNCTION keyring.note_keyring_end();
CREATE TRIGGER note_promotion AFTER INSERT ON keyring.keyrings FOR EACH ROW EXECUTE FUNCTION keyring.note_promotion();
CREATE TRIGGER note_promotions AFTER UPDATE ON keyring.keyrings REFERENCING OLD TABLE AS replaced NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION keyring.note_promotions();
create policy keyring_auditor on keyring.keyrings for select to keyring_auditor using (true);
create policy keyring_reader on keyring.keyrings for select to keyring_reader using (((('user:'::text || ( SELECT p.owner
   FROM public.projects p
  WHERE (p.id = keyrings.project_id))) = current_setting('keyring.principal'::text, true)) OR keyring.sees_project(project_id)));
create policy keyring_roles on keyring.keyrings for all to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_user on keyring.keyrings for select to keyring_user using ((project_id IN ( SELECT unnest(keyring.projects_of_principal()) AS unnest)));
comment on table keyring.keyrings is 'One row a project: the pointer to its primary version, hence exactly one primary';
comment on column keyring.keyrings.primary_made_at is 'When the primary version was made: created_at of it, set by guard_keyring';
grant insert, select on table keyring.keyrings to keyring_service;
grant select on table keyring.keyrings to keyring_auditor;
grant select on table keyring.keyrings to keyring_user;
grant select on column keyring.keyrings.project_id to keyring_reader;
grant select on column keyring.keyrings.primary_key_id to keyring_reader;
grant update on column keyring.keyrings.primary_key_id to keyring_service;
grant update on column keyring.keyrings.promoted_at to keyring_service;

create table keyring.notification_endpoint (
  only_row boolean not null default true,
  url text not null,
  events text[] not null,
  secret_project_id uuid,
  changed_at timestamp with time zone not null default now(),
  changed_by text not null,
  constraint notification_endpoint_changed_by_check CHECK (((length(changed_by) >= 1) AND (length(changed_by) <= 200))),
  constraint notification_endpoint_events_check CHECK (((cardinality(events) >= 1) AND (cardinality(events) <= 20))),
  constraint notification_endpoint_only_row_check CHECK (only_row),
  constraint notification_endpoint_pkey PRIMARY KEY (only_row),
  constraint notification_endpoint_secret_project_id_fkey FOREIGN KEY (secret_project_id) REFERENCES public.projects(id) ON DELETE SET NULL,
  constraint notification_endpoint_url_check CHECK (((length(url) >= 1) AND (length(url) <= 2000)))
);
alter table keyring.notification_endpoint owner to keyring_owner;
alter table keyring.notification_endpoint enable row level security;
alter table keyring.notification_endpoint force row level security;
create policy keyring_roles on keyring.notification_endpoint for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.notification_endpoint is 'Whom this installation tells what happened, and of what; no row: nobody';
comment on column keyring.notification_endpoint.secret_project_id is 'Project of the keyring''s own, with the secret that signs: rotations move it as any other';
grant delete, insert, select, update on table keyring.notification_endpoint to keyring_service;

create table keyring.notifications (
  id uuid not null default gen_random_uuid(),
  event text not null,
  body jsonb not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  queued_at timestamp with time zone,
  state text not null default 'pending'::text,
  attempts integer not null default 0,
  last_attempt_at timestamp with time zone,
  last_status integer,
  last_error text,
  constraint notifications_last_error_check CHECK ((length(last_error) <= 500)),
  constraint notifications_pkey PRIMARY KEY (id),
  constraint notifications_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'delivered'::text, 'failed'::text])))
);
alter table keyring.notifications owner to keyring_owner;
alter table keyring.notifications enable row level security;
alter table keyring.notifications force row level security;
CREATE INDEX notifications_by_time ON keyring.notifications USING btree (created_at DESC);
CREATE INDEX notifications_unqueued ON keyring.notifications USING btree (created_at) WHERE (queued_at IS NULL);
create policy keyring_roles on keyring.notifications for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.notifications is 'What is to be told, and the log of how that went: the newest thousand';
grant delete, insert, select, update on table keyring.notifications to keyring_service;

create table keyring.overdue_notices (
  key_id uuid not null,
  project_id uuid not null,
  noticed_at timestamp with time zone not null default now(),
  constraint overdue_notices_pkey PRIMARY KEY (key_id),
  constraint overdue_notices_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE
);
alter table keyring.overdue_notices owner to keyring_owner;
alter table keyring.overdue_notices enable row level security;
alter table keyring.overdue_notices force row level security;
create policy keyring_roles on keyring.overdue_notices for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.overdue_notices is 'Primary versions that the trail has called overdue: each once. No foreign key to encryption_keys: those are of columns with ciphertext';
grant delete, insert, select on table keyring.overdue_notices to keyring_service;

create table keyring.quarantine (
  id bigint not null generated always as identity,
  rotation_id uuid not null,
  project_id uuid not null,
  label text not null,
  row_id text not null,
  encryption_key_id uuid,
  reason text not null,
  noticed_at timestamp with time zone not null default now(),
  constraint quarantine_pkey PRIMARY KEY (id),
  constraint quarantine_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE,
  constraint quarantine_project_id_label_row_id_key UNIQUE (project_id, label, row_id),
  constraint quarantine_reason_check CHECK ((reason = ANY (ARRAY['does_not_open'::text, 'malformed'::text, 'unknown_key'::text, 'key_unavailable'::text]))),
  constraint quarantine_rotation_id_fkey FOREIGN KEY (rotation_id) REFERENCES keyring.rotations(id)
);
alter table keyring.quarantine owner to keyring_owner;
alter table keyring.quarantine enable row level security;
alter table keyring.quarantine force row level security;
create policy keyring_roles on keyring.quarantine for all to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_user on keyring.quarantine for select to keyring_user using ((project_id IN ( SELECT unnest(keyring.projects_of_principal()) AS unnest)));
comment on table keyring.quarantine is 'Rows that would not open, with a reason and never a value. Gone once they open';
grant delete, insert, select, update on table keyring.quarantine to keyring_service;
grant select on table keyring.quarantine to keyring_user;

create table keyring.receipts (
  rotation_id uuid not null,
  project_id uuid not null,
  payload text not null,
  signature bytea not null,
  signing_key_id uuid not null,
  created_at timestamp with time zone not null default now(),
  constraint receipts_pkey PRIMARY KEY (rotation_id, project_id),
  constraint receipts_rotation_id_fkey FOREIGN KEY (rotation_id) REFERENCES keyring.rotations(id),
  constraint receipts_signature_check CHECK ((octet_length(signature) = 64)),
  constraint receipts_signing_key_id_fkey FOREIGN KEY (signing_key_id) REFERENCES keyring.signing_keys(id)
);
alter table keyring.receipts owner to keyring_owner;
alter table keyring.receipts enable row level security;
alter table keyring.receipts force row level security;
CREATE TRIGGER receipts_are_kept BEFORE DELETE OR UPDATE ON keyring.receipts FOR EACH ROW EXECUTE FUNCTION keyring.refuse_receipt_change();
CREATE TRIGGER receipts_are_not_truncated BEFORE TRUNCATE ON keyring.receipts FOR EACH STATEMENT EXECUTE FUNCTION keyring.refuse_receipt_change();
create policy keyring_auditor on keyring.receipts for select to keyring_auditor using (true);
create policy keyring_roles on keyring.receipts for all to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_user on keyring.receipts for select to keyring_user using ((project_id IN ( SELECT unnest(keyring.projects_of_principal()) AS unnest)));
comment on table keyring.receipts is 'What a finalized project proved, as signed. No foreign key to projects: a receipt outlives its project';
grant insert, select on table keyring.receipts to keyring_service;
grant select on table keyring.receipts to keyring_auditor;
grant select on table keyring.receipts to keyring_user;

create table keyring.restore_doors (
  transaction_id xid8 not null,
  opened_by name not null default SESSION_USER,
  reason text not null,
  opened_at timestamp with time zone not null default clock_timestamp(),
  constraint restore_doors_pkey PRIMARY KEY (transaction_id),
  constraint restore_doors_reason_check CHECK (((length(reason) >= 1) AND (length(reason) <= 1000)))
);
alter table keyring.restore_doors owner to keyring_owner;
alter table keyring.restore_doors enable row level security;
alter table keyring.restore_doors force row level security;
create policy keyring_read on keyring.restore_doors for select to keyring_service using (true);
create policy keyring_roles on keyring.restore_doors for all to keyring_owner using (true) with check (true);
comment on table keyring.restore_doors is 'Transactions in which old ciphertext may be restored. A record, too: rows stay';
grant select on table keyring.restore_doors to keyring_service;

create table keyring.root_key_backups (
  id uuid not null,
  created_at timestamp with time zone not null default now(),
  root_fingerprint text not null,
  wrapping_key_ids uuid[] not null,
  recipients text[] not null,
  file_sha256 bytea,
  written_at timestamp with time zone,
  verified_at timestamp with time zone,
  constraint root_key_backups_file_sha256_check CHECK ((octet_length(file_sha256) = 32)),
  constraint root_key_backups_pkey PRIMARY KEY (id),
  constraint root_key_backups_root_fingerprint_check CHECK ((root_fingerprint ~ '^[0-9a-f]{32}$'::text)),
  constraint root_key_backups_wrapping_key_ids_check CHECK (((cardinality(wrapping_key_ids) >= 1) AND (cardinality(wrapping_key_ids) <= 10000)))
);
alter table keyring.root_key_backups owner to keyring_owner;
alter table keyring.root_key_backups enable row level security;
alter table keyring.root_key_backups force row level security;
create policy keyring_roles on keyring.root_key_backups for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.root_key_backups is 'Backups of the wrapping keys, which are files elsewhere: never a key';
comment on column keyring.root_key_backups.recipients is 'Whom the file is encrypted to: public keys of age, or passphrase';
comment on column keyring.root_key_backups.file_sha256 is 'Of the file as it was written. Null: known only from having been verified after something else had decrypted it';
comment on column keyring.root_key_backups.written_at is 'Null: sealed, and not known to have reached its file';
comment on column keyring.root_key_backups.verified_at is 'When the file was last opened, and every key in it proved to be this database''s';
grant insert, select on table keyring.root_key_backups to keyring_service;
grant update on column keyring.root_key_backups.written_at to keyring_service;
grant update on column keyring.root_key_backups.verified_at to keyring_service;

create table keyring.root_keys (
  id uuid not null default gen_random_uuid(),
  uri text not null,
  fingerprint text not null,
  state text not null default 'enabled'::text,
  created_at timestamp with time zone not null default now(),
  constraint root_keys_fingerprint_check CHECK ((fingerprint ~ '^[0-9a-f]{32}$'::text)),
  constraint root_keys_fingerprint_key UNIQUE (fingerprint),
  constraint root_keys_pkey PRIMARY KEY (id),
  constraint root_keys_state_check CHECK ((state = ANY (ARRAY['enabled'::text, 'disabled'::text, 'compromised'::text, 'destroyed'::text]))),
  constraint root_keys_uri_check CHECK (((length(uri) >= 1) AND (length(uri) <= 2048)))
);
alter table keyring.root_keys owner to keyring_owner;
alter table keyring.root_keys enable row level security;
alter table keyring.root_keys force row level security;
CREATE TRIGGER guard_root_key BEFORE DELETE OR UPDATE ON keyring.root_keys FOR EACH ROW EXECUTE FUNCTION keyring.guard_root_key();
CREATE TRIGGER keys_are_not_truncated BEFORE TRUNCATE ON keyring.root_keys FOR EACH STATEMENT EXECUTE FUNCTION keyring.refuse_truncate();
create policy keyring_roles on keyring.root_keys for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.root_keys is 'Root keys known here: where each lives and how to recognise it, never the key';
grant insert, select on table keyring.root_keys to keyring_service;
grant update on column keyring.root_keys.uri to keyring_service;
grant update on column keyring.root_keys.state to keyring_service;

create table keyring.rotation_policies (
  project_id uuid,
  rotate_after interval not null default '90 days'::interval,
  retention interval not null default '30 days'::interval,
  max_encryptions bigint not null default '3865470566'::bigint,
  enabled boolean not null default true,
  reason text,
  jitter interval,
  quiet_hours jsonb,
  destroy_after_retention boolean not null default true,
  revision bigint not null default nextval('keyring.policy_revisions'::regclass),
  changed_at timestamp with time zone not null default now(),
  changed_by text,
  constraint rotation_policies_changed_by_check CHECK (((length(changed_by) >= 1) AND (length(changed_by) <= 200))),
  constraint rotation_policies_jitter_check CHECK ((jitter >= '00:00:00'::interval)),
  constraint rotation_policies_max_encryptions_check CHECK (((max_encryptions >= 1) AND (max_encryptions <= '4294967296'::bigint))),
  constraint rotation_policies_off_with_reason CHECK ((enabled OR (reason IS NOT NULL))),
  constraint rotation_policies_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE,
  constraint rotation_policies_project_id_key UNIQUE NULLS NOT DISTINCT (project_id),
  constraint rotation_policies_quiet_hours_check CHECK ((jsonb_typeof(quiet_hours) = 'object'::text)),
  constraint rotation_policies_reason_check CHECK (((length(reason) >= 1) AND (length(reason) <= 1000))),
  constraint rotation_policies_retention_check CHECK ((retention >= '00:00:00'::interval)),
  constraint rotation_policies_rotate_after_check CHECK ((rotate_after >= '24:00:00'::interval))
);
alter table keyring.rotation_policies owner to keyring_owner;
alter table keyring.rotation_policies enable row level security;
alter table keyring.rotation_policies force row level security;
alter table keyring.rotation_policies replica identity full;
CREATE TRIGGER guard_retention BEFORE INSERT OR DELETE OR UPDATE ON keyring.rotation_policies FOR EACH ROW EXECUTE FUNCTION keyring.guard_retention();
create policy keyring_auditor on keyring.rotation_policies for select to keyring_auditor using (true);
create policy keyring_roles on keyring.rotation_policies for all to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_user on keyring.rotation_policies for select to keyring_user using (((project_id IS NULL) OR (project_id IN ( SELECT unnest(keyring.projects_of_principal()) AS unnest))));
comment on column keyring.rotation_policies.project_id is 'Null is the default for every project without a row of its own';
comment on column keyring.rotation_policies.jitter is 'How far before its age is reached a version may be due, each project at its own place. Null: a tenth of the age, 7 days at most';
comment on column keyring.rotation_policies.quiet_hours is 'Null: rotations begin at any time. Otherwise a time zone with windows of days and times, or with a cron expression';
comment on column keyring.rotation_policies.revision is 'Changes are compare-and-set on it';
grant delete, insert, select, update on table keyring.rotation_policies to keyring_service;
grant select on table keyring.rotation_policies to keyring_auditor;
grant select on table keyring.rotation_policies to keyring_user;

create table keyring.rotation_projects (
  rotation_id uuid not null,
  project_id uuid not null,
  project_name text not null,
  state text not null default 'requested'::text,
  direction text not null default 'forward'::text,
  source_key_id uuid,
  target_key_id uuid,
  rows_total bigint,
  rows_moved bigint not null default 0,
  rows_verified bigint not null default 0,
  rows_quarantined bigint not null default 0,
  error_code text,
  error_detail text,
  staged_at timestamp with time zone,
  promoted_at timestamp with time zone,
  swept_at timestamp with time zone,
  verified_at timestamp with time zone,
  finished_at timestamp with time zone,
  constraint rotation_projects_direction_check CHECK ((direction = ANY (ARRAY['forward'::text, 'back'::text]))),
  constraint rotation_projects_pkey PRIMARY KEY (rotation_id, project_id),
  constraint rotation_projects_rotation_id_fkey FOREIGN KEY (rotation_id) REFERENCES keyring.rotations(id),
  constraint rotation_projects_state_check CHECK ((state = ANY (ARRAY['requested'::text, 'staged'::text, 'sweeping'::text, 'verifying'::text, 'completed'::text, 'blocked'::text, 'rolling_back'::text, 'rolled_back'::text, 'canceled'::text, 'failed'::text])))
) with (fillfactor=70);
alter table keyring.rotation_projects owner to keyring_owner;
alter table keyring.rotation_projects enable row level security;
alter table keyring.rotation_projects force row level security;
CREATE INDEX rotation_projects_given_up ON keyring.rotation_projects USING btree (project_id, finished_at) WHERE (state = ANY (ARRAY['rolled_back'::text, 'canceled'::text, 'failed'::text]));
CREATE UNIQUE INDEX one_open_rotation_per_project ON keyring.rotation_projects USING btree (project_id) WHERE (state <> ALL (ARRAY['completed'::text, 'rolled_back'::text, 'canceled'::text, 'failed'::text]));
CREATE TRIGGER guard_rotation_project BEFORE UPDATE ON keyring.rotation_projects FOR EACH ROW WHEN (new.rotation_id IS DISTINCT FROM old.rotation_id OR new.project_id IS DISTINCT FROM old.project_id OR old.source_key_id IS NOT NULL AND new.source_key_id IS DISTINCT FROM old.source_key_id OR old.target_key_id IS NOT NULL AND new.target_key_id IS DISTINCT FROM old.target_key_id OR new.direction IS DISTINCT FROM old.direction OR new.state IS DISTINCT FROM old.state AND (old.state <> 'requested'::text OR new.state <> 'staged'::text) AND (old.state <> 'staged'::text OR new.state <> 'sweeping'::text) AND (old.state <> 'sweeping'::text OR new.state <> 'verifying'::text) AND (old.state <> 'verifying'::text OR new.state <> 'completed'::text)) EXECUTE FUNCTION keyring.guard_rotation_project();
create policy keyring_auditor on keyring.rotation_projects for select to keyring_auditor using (true);
create policy keyring_roles on keyring.rotation_projects for all to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_user on keyring.rotation_projects for select to keyring_user using ((project_id IN ( SELECT unnest(keyring.projects_of_principal()) AS unnest)));
comment on table keyring.rotation_projects is 'No foreign key to projects: what a rotation did outlives the project. The name is kept as it was';
grant insert, select, update on table keyring.rotation_projects to keyring_service;
grant select on table keyring.rotation_projects to keyring_auditor;
grant select on table keyring.rotation_projects to keyring_user;

create table keyring.rotations (
  id uuid not null,
  scope text not null,
  trigger text not null,
  state text not null default 'requested'::text,
  direction text not null default 'forward'::text,
  requested_by text not null,
  reason text,
  requested_at timestamp with time zone not null default now(),
  started_at timestamp with time zone,
  finished_at timestamp with time zone,
  runner text,
  runner_until timestamp with time zone,
  pace text not null default 'polite'::text,
  max_rate integer,
  planned_for timestamp with time zone,
  constraint rotations_direction_check CHECK ((direction = ANY (ARRAY['forward'::text, 'back'::text]))),
  constraint rotations_max_rate_check CHECK (((max_rate >= 1) AND (max_rate <= 1000000))),
  constraint rotations_pace_check CHECK ((pace = ANY (ARRAY['polite'::text, 'full'::text]))),
  constraint rotations_pkey PRIMARY KEY (id),
  constraint rotations_reason_check CHECK ((length(reason) <= 1000)),
  constraint rotations_requested_by_check CHECK (((length(requested_by) >= 1) AND (length(requested_by) <= 200))),
  constraint rotations_scope_check CHECK ((scope = ANY (ARRAY['projects'::text, 'all'::text]))),
  constraint rotations_state_check CHECK ((state = ANY (ARRAY['requested'::text, 'running'::text, 'paused'::text, 'blocked'::text, 'rolling_back'::text, 'completed'::text, 'rolled_back'::text, 'canceled'::text, 'failed'::text]))),
  constraint rotations_trigger_check CHECK ((trigger = ANY (ARRAY['manual'::text, 'api'::text, 'usage'::text, 'schedule'::text, 'compromise'::text])))
);
alter table keyring.rotations owner to keyring_owner;
alter table keyring.rotations enable row level security;
alter table keyring.rotations force row level security;
CREATE INDEX rotations_by_time ON keyring.rotations USING btree (requested_at DESC, id DESC);
CREATE INDEX rotations_ended ON keyring.rotations USING btree (finished_at) INCLUDE (id, trigger, state, started_at) WHERE (finished_at IS NOT NULL);
CREATE INDEX rotations_open ON keyring.rotations USING btree (requested_at) WHERE (state = ANY (ARRAY['requested'::text, 'running'::text, 'paused'::text, 'blocked'::text, 'rolling_back'::text]));
create policy keyring_auditor on keyring.rotations for select to keyring_auditor using (true);
create policy keyring_roles on keyring.rotations for all to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_user on keyring.rotations for select to keyring_user using ((id IN ( SELECT keyring.rotations_of_principal() AS rotations_of_principal)));
comment on column keyring.rotations.max_rate is 'Rows a second, for each process that works on it';
comment on column keyring.rotations.planned_for is 'Of one that was asked for by a policy: when the first of its projects might have begun. Later than that by more than minutes, it was late';
grant insert, select, update on table keyring.rotations to keyring_service;
grant select on table keyring.rotations to keyring_auditor;
grant select on table keyring.rotations to keyring_user;

create table keyring.schedule_turns (
  task text not null,
  last_at timestamp with time zone not null default '-infinity'::timestamp with time zone,
  constraint schedule_turns_pkey PRIMARY KEY (task),
  constraint schedule_turns_task_check CHECK ((task = ANY (ARRAY['request'::text, 'overdue'::text, 'destroy'::text])))
);
alter table keyring.schedule_turns owner to keyring_owner;
alter table keyring.schedule_turns enable row level security;
alter table keyring.schedule_turns force row level security;
create policy keyring_roles on keyring.schedule_turns for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.schedule_turns is 'When each task of the schedule was last done, by whichever process. Its row is locked for as long as one does it';
grant select on table keyring.schedule_turns to keyring_service;
grant update on column keyring.schedule_turns.last_at to keyring_service;

create view keyring.scheduled_projects (
  project_id uuid,
  key_id uuid,
  made_at timestamp with time zone,
  promoted_at timestamp with time zone,
  own_policy boolean,
  enabled boolean,
  quiet_hours jsonb,
  max_encryptions bigint,
  encryptions bigint,
  fraction double precision,
  promised_at timestamp with time zone,
  due_at timestamp with time zone
) with (security_invoker=true) as
 SELECT r.project_id,
    k.id AS key_id,
    k.created_at AS made_at,
    r.promoted_at,
    own.project_id IS NOT NULL AS own_policy,
    p.enabled,
    p.quiet_hours,
    p.max_encryptions,
    COALESCE(u.reserved, 0::bigint) AS encryptions,
    f.fraction,
    to_timestamp(EXTRACT(epoch FROM k.created_at)::double precision + p.age) AS promised_at,
    to_timestamp(floor((EXTRACT(epoch FROM k.created_at)::double precision + p.age - LEAST(COALESCE(p.jitter, LEAST(p.age / 10::double precision, 604800::double precision)), p.age - 86400::double precision) * f.fraction) / 3600::double precision) * 3600::double precision) AS due_at
   FROM keyring.keyrings r
     JOIN keyring.encryption_keys k ON k.id = r.primary_key_id
     LEFT JOIN keyring.key_usage u ON u.key_id = k.id
     LEFT JOIN keyring.rotation_policies own ON own.project_id = r.project_id
     JOIN keyring.rotation_policies general ON general.project_id IS NULL
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN own.project_id IS NULL THEN general.enabled
                    ELSE own.enabled
                END AS enabled,
                CASE
                    WHEN own.project_id IS NULL THEN general.quiet_hours
                    ELSE own.quiet_hours
                END AS quiet_hours,
                CASE
                    WHEN own.project_id IS NULL THEN general.max_encryptions
                    ELSE own.max_encryptions
                END AS max_encryptions,
            EXTRACT(epoch FROM
                CASE
                    WHEN own.project_id IS NULL THEN general.rotate_after
                    ELSE own.rotate_after
                END)::double precision AS age,
            EXTRACT(epoch FROM
                CASE
                    WHEN own.project_id IS NULL THEN general.jitter
                    ELSE own.jitter
                END)::double precision AS jitter) p
     CROSS JOIN LATERAL ( SELECT (uuid_hash_extended(r.project_id, 0::bigint) & '4294967295'::bigint)::double precision / '4294967296'::bigint::double precision AS fraction) f;
alter view keyring.scheduled_projects owner to keyring_owner;
comment on view keyring.scheduled_projects is 'The primary version of every project, when it is due by age, and when its age reaches that of the policy (promised)';
grant select on view keyring.scheduled_projects to keyring_service;
grant select on view keyring.scheduled_projects to keyring_user;

create table keyring.sessions (
  id uuid not null default gen_random_uuid(),
  digest bytea not null,
  person text not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  seen_at timestamp with time zone not null default clock_timestamp(),
  expires_at timestamp with time zone not null,
  constraint sessions_digest_check CHECK ((octet_length(digest) = 32)),
  constraint sessions_digest_key UNIQUE (digest),
  constraint sessions_person_check CHECK (((length(person) >= 1) AND (length(person) <= 200))),
  constraint sessions_pkey PRIMARY KEY (id)
);
alter table keyring.sessions owner to keyring_owner;
alter table keyring.sessions enable row level security;
alter table keyring.sessions force row level security;
create policy keyring_roles on keyring.sessions for all to keyring_owner, keyring_service using (true) with check (true);
comment on column keyring.sessions.expires_at is 'The latest; a session that is idle ends before. One that was ended is gone';
grant delete, insert, select on table keyring.sessions to keyring_service;
grant update on column keyring.sessions.seen_at to keyring_service;

create table keyring.sign_in_links (
  digest bytea not null,
  person text not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  expires_at timestamp with time zone not null,
  constraint sign_in_links_digest_check CHECK ((octet_length(digest) = 32)),
  constraint sign_in_links_person_check CHECK (((length(person) >= 1) AND (length(person) <= 200))),
  constraint sign_in_links_pkey PRIMARY KEY (digest)
);
alter table keyring.sign_in_links owner to keyring_owner;
alter table keyring.sign_in_links enable row level security;
alter table keyring.sign_in_links force row level security;
create policy keyring_roles on keyring.sign_in_links for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.sign_in_links is 'A link that becomes a session, once: it is gone when it was used';
grant delete, insert, select on table keyring.sign_in_links to keyring_service;

create table keyring.signing_keys (
  id uuid not null,
  version integer not null,
  algorithm text not null default 'Ed25519'::text,
  public_key bytea not null,
  wrapped_key bytea not null,
  wrapping_key_id uuid not null,
  created_at timestamp with time zone not null default now(),
  purpose text not null default 'receipts'::text,
  constraint signing_keys_algorithm_check CHECK ((algorithm = 'Ed25519'::text)),
  constraint signing_keys_pkey PRIMARY KEY (id),
  constraint signing_keys_public_key_check CHECK ((octet_length(public_key) = 32)),
  constraint signing_keys_purpose_check CHECK ((purpose = ANY (ARRAY['receipts'::text, 'audit'::text]))),
  constraint signing_keys_version_check CHECK ((version > 0)),
  constraint signing_keys_version_key UNIQUE (version),
  constraint signing_keys_wrapped_key_check CHECK ((octet_length(wrapped_key) = 78)),
  constraint signing_keys_wrapping_key_id_fkey FOREIGN KEY (wrapping_key_id) REFERENCES keyring.wrapping_keys(id) DEFERRABLE INITIALLY DEFERRED
);
alter table keyring.signing_keys owner to keyring_owner;
alter table keyring.signing_keys enable row level security;
alter table keyring.signing_keys force row level security;
CREATE TRIGGER guard_signing_key BEFORE UPDATE ON keyring.signing_keys FOR EACH ROW WHEN (new.id IS DISTINCT FROM old.id OR new.version IS DISTINCT FROM old.version OR new.algorithm IS DISTINCT FROM old.algorithm OR new.public_key IS DISTINCT FROM old.public_key OR new.created_at IS DISTINCT FROM old.created_at OR new.purpose IS DISTINCT FROM old.purpose) EXECUTE FUNCTION keyring.guard_signing_key();
CREATE TRIGGER keyring_fence_insert AFTER INSERT ON keyring.signing_keys REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION keyring.fence_wrapped_keys();
CREATE TRIGGER keyring_fence_update AFTER UPDATE ON keyring.signing_keys REFERENCING OLD TABLE AS replaced NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION keyring.fence_wrapped_keys();
CREATE TRIGGER keys_are_not_truncated BEFORE TRUNCATE ON keyring.signing_keys FOR EACH STATEMENT EXECUTE FUNCTION keyring.refuse_truncate();
CREATE TRIGGER signing_keys_are_kept BEFORE DELETE ON keyring.signing_keys FOR EACH ROW EXECUTE FUNCTION keyring.refuse_receipt_change();
create policy keyring_auditor on keyring.signing_keys for select to keyring_auditor using (true);
create policy keyring_roles on keyring.signing_keys for all to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_user on keyring.signing_keys for select to keyring_user using (true);
comment on table keyring.signing_keys is 'Ed25519 keys that sign receipts; the newest signs, every public half verifies';
grant insert, select on table keyring.signing_keys to keyring_service;
grant select on column keyring.signing_keys.id to keyring_auditor;
grant select on column keyring.signing_keys.id to keyring_user;
grant select on column keyring.signing_keys.version to keyring_auditor;
grant select on column keyring.signing_keys.algorithm to keyring_auditor;
grant select on column keyring.signing_keys.public_key to keyring_auditor;
grant select on column keyring.signing_keys.public_key to keyring_user;
grant update on column keyring.signing_keys.wrapped_key to keyring_service;
grant select on column keyring.signing_keys.wrapping_key_id to keyring_auditor;
grant update on column keyring.signing_keys.wrapping_key_id to keyring_service;
grant select on column keyring.signing_keys.created_at to keyring_auditor;

create table keyring.upper_rotations (
  id uuid not null,
  kind text not null,
  state text not null default 'requested'::text,
  direction text not null default 'forward'::text,
  leaked boolean not null default false,
  from_root_key_id uuid,
  to_root_key_id uuid,
  from_wrapping_key_id uuid,
  to_wrapping_key_id uuid,
  requested_by text not null,
  reason text,
  requested_at timestamp with time zone not null default now(),
  prepared_at timestamp with time zone,
  promoted_at timestamp with time zone,
  rewrapped_at timestamp with time zone,
  verified_at timestamp with time zone,
  finished_at timestamp with time zone,
  keys_total bigint,
  keys_moved bigint not null default 0,
  keys_verified bigint not null default 0,
  forced uuid[] not null default '{}'::uuid[],
  error_code text,
  error_detail text,
  blocked_by jsonb not null default '[]'::jsonb,
  constraint ended_has_a_time CHECK (((finished_at IS NOT NULL) = (state = ANY (ARRAY['completed'::text, 'rolled_back'::text, 'canceled'::text, 'failed'::text])))),
  constraint of_one_kind CHECK (
CASE kind
    WHEN 'root'::text THEN ((from_root_key_id IS NOT NULL) AND (to_root_key_id IS NOT NULL) AND (from_root_key_id <> to_root_key_id) AND (from_wrapping_key_id IS NULL) AND (to_wrapping_key_id IS NULL))
    ELSE ((from_wrapping_key_id IS NOT NULL) AND (from_root_key_id IS NULL) AND (to_root_key_id IS NULL) AND (to_wrapping_key_id IS DISTINCT FROM from_wrapping_key_id) AND ((to_wrapping_key_id IS NOT NULL) OR (state = ANY (ARRAY['requested'::text, 'canceled'::text, 'failed'::text]))))
END),
  constraint turns_back_when_it_says_so CHECK (((direction = 'back'::text) >= (state = ANY (ARRAY['rolling_back'::text, 'rolled_back'::text])))),
  constraint upper_rotations_direction_check CHECK ((direction = ANY (ARRAY['forward'::text, 'back'::text]))),
  constraint upper_rotations_from_root_key_id_fkey FOREIGN KEY (from_root_key_id) REFERENCES keyring.root_keys(id),
  constraint upper_rotations_from_wrapping_key_id_fkey FOREIGN KEY (from_wrapping_key_id) REFERENCES keyring.wrapping_keys(id),
  constraint upper_rotations_kind_check CHECK ((kind = ANY (ARRAY['root'::text, 'wrapping'::text]))),
  constraint upper_rotations_pkey PRIMARY KEY (id),
  constraint upper_rotations_reason_check CHECK ((length(reason) <= 1000)),
  constraint upper_rotations_requested_by_check CHECK (((length(requested_by) >= 1) AND (length(requested_by) <= 200))),
  constraint upper_rotations_state_check CHECK ((state = ANY (ARRAY['requested'::text, 'prepared'::text, 'rewrapping'::text, 'verifying'::text, 'completed'::text, 'blocked'::text, 'rolling_back'::text, 'rolled_back'::text, 'canceled'::text, 'failed'::text]))),
  constraint upper_rotations_to_root_key_id_fkey FOREIGN KEY (to_root_key_id) REFERENCES keyring.root_keys(id),
  constraint upper_rotations_to_wrapping_key_id_fkey FOREIGN KEY (to_wrapping_key_id) REFERENCES keyring.wrapping_keys(id)
) with (fillfactor=70);
alter table keyring.upper_rotations owner to keyring_owner;
alter table keyring.upper_rotations enable row level security;
alter table keyring.upper_rotations force row level security;
CREATE INDEX upper_rotations_by_time ON keyring.upper_rotations USING btree (requested_at DESC, id DESC);
CREATE UNIQUE INDEX one_open_upper_rotation ON keyring.upper_rotations USING btree ((true)) WHERE (finished_at IS NULL);
CREATE TRIGGER guard_upper_rotation BEFORE DELETE OR UPDATE ON keyring.upper_rotations FOR EACH ROW EXECUTE FUNCTION keyring.guard_upper_rotation();
create policy keyring_roles on keyring.upper_rotations for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.upper_rotations is 'Rotations of the root key and of the wrapping key; those of data keys are in rotations';
grant insert, select, update on table keyring.upper_rotations to keyring_service;

create table keyring.workers (
  id uuid not null,
  host text not null,
  pid integer not null,
  version text not null,
  concurrency integer not null,
  started_at timestamp with time zone not null default now(),
  seen_at timestamp with time zone not null default now(),
  doing jsonb not null default '{"units": [], "driving": []}'::jsonb,
  constraint workers_concurrency_check CHECK (((concurrency >= 1) AND (concurrency <= 64))),
  constraint workers_host_check CHECK (((length(host) >= 1) AND (length(host) <= 255))),
  constraint workers_pkey PRIMARY KEY (id),
  constraint workers_version_check CHECK (((length(version) >= 1) AND (length(version) <= 100)))
) with (fillfactor=50);
alter table keyring.workers owner to keyring_owner;
alter table keyring.workers enable row level security;
alter table keyring.workers force row level security;
create policy keyring_roles on keyring.workers for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.workers is 'One row a worker process. Gone when it ends, or an hour after it was last seen';
grant delete, insert, select, update on table keyring.workers to keyring_service;

create table keyring.wrapped_wrapping_keys (
  wrapping_key_id uuid not null,
  root_key_id uuid not null,
  wrapped bytea not null,
  created_at timestamp with time zone not null default now(),
  constraint wrapped_wrapping_keys_pkey PRIMARY KEY (wrapping_key_id, root_key_id),
  constraint wrapped_wrapping_keys_root_key_id_fkey FOREIGN KEY (root_key_id) REFERENCES keyring.root_keys(id),
  constraint wrapped_wrapping_keys_wrapped_check CHECK (((octet_length(wrapped) >= 32) AND (octet_length(wrapped) <= 8192))),
  constraint wrapped_wrapping_keys_wrapping_key_id_fkey FOREIGN KEY (wrapping_key_id) REFERENCES keyring.wrapping_keys(id)
);
alter table keyring.wrapped_wrapping_keys owner to keyring_owner;
alter table keyring.wrapped_wrapping_keys enable row level security;
alter table keyring.wrapped_wrapping_keys force row level security;
CREATE TRIGGER guard_wrapped_copy BEFORE INSERT OR DELETE OR UPDATE ON keyring.wrapped_wrapping_keys FOR EACH ROW EXECUTE FUNCTION keyring.guard_wrapped_copy();
CREATE TRIGGER keys_are_not_truncated BEFORE TRUNCATE ON keyring.wrapped_wrapping_keys FOR EACH STATEMENT EXECUTE FUNCTION keyring.refuse_truncate();
create policy keyring_roles on keyring.wrapped_wrapping_keys for all to keyring_owner, keyring_service using (true) with check (true);
comment on table keyring.wrapped_wrapping_keys is 'A wrapping key under a root key. Two rows of one wrapping key are two ways in, as while the root key rotates';
grant delete, insert, select on table keyring.wrapped_wrapping_keys to keyring_service;

create table keyring.wrapping_keys (
  id uuid not null,
  version integer not null,
  state text not null default 'enabled'::text,
  fingerprint bytea not null,
  created_at timestamp with time zone not null default now(),
  promoted_at timestamp with time zone,
  disabled_at timestamp with time zone,
  compromised_at timestamp with time zone,
  exposed_at timestamp with time zone,
  destroyed_at timestamp with time zone,
  constraint compromised_has_a_time CHECK (((state = 'compromised'::text) <= (compromised_at IS NOT NULL))),
  constraint compromised_time_means_so CHECK (((compromised_at IS NULL) OR (state = ANY (ARRAY['compromised'::text, 'destroyed'::text])))),
  constraint destroyed_has_a_time CHECK (((state = 'destroyed'::text) = (destroyed_at IS NOT NULL))),
  constraint disabled_has_a_time CHECK (((state = 'disabled'::text) <= (disabled_at IS NOT NULL))),
  constraint wrapping_keys_fingerprint_check CHECK ((octet_length(fingerprint) = 32)),
  constraint wrapping_keys_pkey PRIMARY KEY (id),
  constraint wrapping_keys_state_check CHECK ((state = ANY (ARRAY['enabled'::text, 'disabled'::text, 'compromised'::text, 'destroyed'::text]))),
  constraint wrapping_keys_version_check CHECK ((version > 0)),
  constraint wrapping_keys_version_key UNIQUE (version)
);
alter table keyring.wrapping_keys owner to keyring_owner;
alter table keyring.wrapping_keys enable row level security;
alter table keyring.wrapping_keys force row level security;
CREATE TRIGGER erase_wrapping_key AFTER UPDATE ON keyring.wrapping_keys FOR EACH ROW WHEN (new.state = 'destroyed'::text) EXECUTE FUNCTION keyring.erase_wrapping_key();
CREATE TRIGGER guard_wrapping_key BEFORE DELETE OR UPDATE ON keyring.wrapping_keys FOR EACH ROW EXECUTE FUNCTION keyring.guard_wrapping_key();
CREATE TRIGGER keys_are_not_truncated BEFORE TRUNCATE ON keyring.wrapping_keys FOR EACH STATEMENT EXECUTE FUNCTION keyring.refuse_truncate();
create policy keyring_roles on keyring.wrapping_keys for all to keyring_owner, keyring_service using (true) with check (true);
comment on column keyring.wrapping_keys.state is 'Only an enabled one is ever primary. Disabled and compromised ones unwrap what is still under them, as restored rows';
comment on column keyring.wrapping_keys.fingerprint is 'Key check value (HKDF), verified at every unwrap; commits to the key';
comment on column keyring.wrapping_keys.exposed_at is 'When a root key that had wrapped it was found to have leaked: rotate it, too';
grant insert, select on table keyring.wrapping_keys to keyring_service;
grant update on column keyring.wrapping_keys.state to keyring_service;
grant update on column keyring.wrapping_keys.disabled_at to keyring_service;
grant update on column keyring.wrapping_keys.compromised_at to keyring_service;
grant update on column keyring.wrapping_keys.exposed_at to keyring_service;
grant update on column keyring.wrapping_keys.destroyed_at to keyring_service;

create table keyring_jobs.bam (
  id uuid not null default gen_random_uuid(),
  name text not null,
  version integer not null,
  status text not null default 'pending'::text,
  queue text,
  table_name text not null,
  command text not null,
  error text,
  created_on timestamp with time zone not null default clock_timestamp(),
  started_on timestamp with time zone,
  completed_on timestamp with time zone,
  constraint bam_pkey PRIMARY KEY (id)
);
alter table keyring_jobs.bam owner to keyring_owner;
alter table keyring_jobs.bam enable row level security;
alter table keyring_jobs.bam force row level security;
create policy keyring_roles on keyring_jobs.bam for all to keyring_owner, keyring_service using (true) with check (true);

create table keyring_jobs.instance (
  id uuid not null,
  name text,
  host text not null,
  pid integer not null,
  version text not null,
  node_version text not null,
  application_name text,
  heartbeat_seconds integer not null,
  supervise boolean not null,
  schedule boolean not null,
  migrate boolean not null,
  persist_queue_stats boolean not null,
  persist_warnings boolean not null,
  pool_max integer,
  pool_total integer,
  pool_idle integer,
  pool_waiting integer,
  workers jsonb not null default '[]'::jsonb,
  metrics jsonb,
  config jsonb not null default '{}'::jsonb,
  crash_restarts integer not null default 0,
  crash_restarts_since timestamp with time zone,
  started_on timestamp with time zone not null default now(),
  heartbeat_on timestamp with time zone not null default now(),
  stopped_on timestamp with time zone,
  constraint instance_pkey PRIMARY KEY (id)
);
alter table keyring_jobs.instance owner to keyring_owner;
alter table keyring_jobs.instance enable row level security;
alter table keyring_jobs.instance force row level security;
create policy keyring_roles on keyring_jobs.instance for all to keyring_owner, keyring_service using (true) with check (true);

create table keyring_jobs.job (
  id uuid not null default gen_random_uuid(),
  name text not null,
  priority integer not null default 0,
  data jsonb,
  state keyring_jobs.job_state not null default 'created'::keyring_jobs.job_state,
  retry_limit integer not null default 2,
  retry_count integer not null default 0,
  retry_delay integer not null default 0,
  retry_backoff boolean not null default false,
  retry_delay_max integer,
  expire_seconds integer not null default 900,
  deletion_seconds integer not null default 604800,
  singleton_key text,
  singleton_on timestamp without time zone,
  group_id text,
  group_tier text,
  start_after timestamp with time zone not null default now(),
  created_on timestamp with time zone not null default now(),
  started_on timestamp with time zone,
  completed_on timestamp with time zone,
  keep_until timestamp with time zone not null default (now() + '336:00:00'::interval),
  output jsonb,
  dead_letter text,
  policy text,
  heartbeat_on timestamp with time zone,
  heartbeat_seconds integer,
  blocked boolean not null default false,
  blocking boolean not null default false,
  pending_dependencies integer not null default 0,
  source_name text,
  source_id uuid,
  source_created_on timestamp with time zone,
  source_retry_count integer,
  source_output jsonb,
  source_root_id uuid,
  trace_context jsonb,
  upsert_by_key boolean,
  constraint job_pkey PRIMARY KEY (name, id)
) partition by LIST (name);
alter table keyring_jobs.job owner to keyring_owner;
alter table keyring_jobs.job enable row level security;
alter table keyring_jobs.job force row level security;
create policy keyring_roles on keyring_jobs.job for all to keyring_owner, keyring_service using (true) with check (true);
grant insert on table keyring_jobs.job to keyring_service;

create table keyring_jobs.job_common (
  id uuid not null default gen_random_uuid(),
  name text not null,
  priority integer not null default 0,
  data jsonb,
  state keyring_jobs.job_state not null default 'created'::keyring_jobs.job_state,
  retry_limit integer not null default 2,
  retry_count integer not null default 0,
  retry_delay integer not null default 0,
  retry_backoff boolean not null default false,
  retry_delay_max integer,
  expire_seconds integer not null default 900,
  deletion_seconds integer not null default 604800,
  singleton_key text,
  singleton_on timestamp without time zone,
  group_id text,
  group_tier text,
  start_after timestamp with time zone not null default now(),
  created_on timestamp with time zone not null default now(),
  started_on timestamp with time zone,
  completed_on timestamp with time zone,
  keep_until timestamp with time zone not null default (now() + '336:00:00'::interval),
  output jsonb,
  dead_letter text,
  policy text,
  heartbeat_on timestamp with time zone,
  heartbeat_seconds integer,
  blocked boolean not null default false,
  blocking boolean not null default false,
  pending_dependencies integer not null default 0,
  source_name text,
  source_id uuid,
  source_created_on timestamp with time zone,
  source_retry_count integer,
  source_output jsonb,
  source_root_id uuid,
  trace_context jsonb,
  upsert_by_key boolean,
  constraint dlq_fkey FOREIGN KEY (dead_letter) REFERENCES keyring_jobs.queue(name) ON DELETE RESTRICT DEFERRABLE INITIALLY DEFERRED,
  constraint job_common_pkey PRIMARY KEY (name, id),
  constraint job_key_strict_fifo_singleton_key_check CHECK ((NOT ((policy = 'key_strict_fifo'::text) AND (singleton_key IS NULL)))),
  constraint q_fkey FOREIGN KEY (name) REFERENCES keyring_jobs.queue(name) ON DELETE RESTRICT DEFERRABLE INITIALLY DEFERRED
);
-- partition of keyring_jobs.job DEFAULT
alter table keyring_jobs.job_common owner to keyring_owner;
alter table keyring_jobs.job_common enable row level security;
alter table keyring_jobs.job_common force row level security;
CREATE INDEX job_common_i10 ON keyring_jobs.job_common USING btree (name, singleton_key, state DESC, created_on, id) INCLUDE (start_after) WHERE ((state < 'active'::keyring_jobs.job_state) AND (NOT blocked) AND (policy = 'key_strict_fifo'::text));
CREATE INDEX job_common_i11 ON keyring_jobs.job_common USING btree (name, priority DESC, created_on, start_after) WHERE ((state < 'active'::keyring_jobs.job_state) AND (NOT blocked));
CREATE INDEX job_common_i12 ON keyring_jobs.job_common USING btree (source_root_id) WHERE (source_root_id IS NOT NULL);
CREATE INDEX job_common_i14 ON keyring_jobs.job_common USING btree (name, state, blocked, start_after) WHERE (state = ANY (ARRAY['created'::keyring_jobs.job_state, 'retry'::keyring_jobs.job_state, 'active'::keyring_jobs.job_state, 'failed'::keyring_jobs.job_state]));
CREATE INDEX job_common_i15 ON keyring_jobs.job_common USING btree (name, created_on);
CREATE INDEX job_common_i16 ON keyring_jobs.job_common USING btree (name, completed_on) WHERE (completed_on IS NOT NULL);
CREATE INDEX job_common_i17 ON keyring_jobs.job_common USING btree (name, singleton_key, created_on) WHERE ((state < 'active'::keyring_jobs.job_state) AND (singleton_key IS NOT NULL));
CREATE INDEX job_common_i7 ON keyring_jobs.job_common USING btree (name, group_id) WHERE ((state = 'active'::keyring_jobs.job_state) AND (group_id IS NOT NULL));
CREATE INDEX job_common_i9 ON keyring_jobs.job_common USING btree (name, id) WHERE (blocking AND (state = 'completed'::keyring_jobs.job_state));
CREATE UNIQUE INDEX job_common_i1 ON keyring_jobs.job_common USING btree (name, COALESCE(singleton_key, ''::text)) WHERE ((state = 'created'::keyring_jobs.job_state) AND (policy = 'short'::text));
CREATE UNIQUE INDEX job_common_i13 ON keyring_jobs.job_common USING btree (name, singleton_key) WHERE ((state = 'created'::keyring_jobs.job_state) AND upsert_by_key);
CREATE UNIQUE INDEX job_common_i2 ON keyring_jobs.job_common USING btree (name, COALESCE(singleton_key, ''::text)) WHERE ((state = 'active'::keyring_jobs.job_state) AND (policy = 'singleton'::text));
CREATE UNIQUE INDEX job_common_i3 ON keyring_jobs.job_common USING btree (name, state, COALESCE(singleton_key, ''::text)) WHERE ((state <= 'active'::keyring_jobs.job_state) AND (policy = 'stately'::text));
CREATE UNIQUE INDEX job_common_i4 ON keyring_jobs.job_common USING btree (name, singleton_on, COALESCE(singleton_key, ''::text)) WHERE ((state <> 'cancelled'::keyring_jobs.job_state) AND (singleton_on IS NOT NULL));
CREATE UNIQUE INDEX job_common_i6 ON keyring_jobs.job_common USING btree (name, COALESCE(singleton_key, ''::text)) WHERE ((state <= 'active'::keyring_jobs.job_state) AND (policy = 'exclusive'::text));
CREATE UNIQUE INDEX job_common_i8 ON keyring_jobs.job_common USING btree (name, singleton_key) WHERE ((state = ANY (ARRAY['active'::keyring_jobs.job_state, 'retry'::keyring_jobs.job_state, 'failed'::keyring_jobs.job_state])) AND (policy = 'key_strict_fifo'::text));
create policy keyring_roles on keyring_jobs.job_common for all to keyring_owner, keyring_service using (true) with check (true);
grant delete, insert, select, update on table keyring_jobs.job_common to keyring_service;

create table keyring_jobs.job_dependency (
  child_name text not null,
  child_id uuid not null,
  parent_name text not null,
  parent_id uuid not null,
  constraint job_dependency_pkey PRIMARY KEY (child_name, child_id, parent_name, parent_id)
);
alter table keyring_jobs.job_dependency owner to keyring_owner;
alter table keyring_jobs.job_dependency enable row level security;
alter table keyring_jobs.job_dependency force row level security;
CREATE INDEX job_dep_parent_idx ON keyring_jobs.job_dependency USING btree (parent_name, parent_id);
create policy keyring_roles on keyring_jobs.job_dependency for all to keyring_owner, keyring_service using (true) with check (true);

create table keyring_jobs.queue (
  name text not null,
  policy text not null,
  retry_limit integer not null,
  retry_delay integer not null,
  retry_backoff boolean not null,
  retry_delay_max integer,
  expire_seconds integer not null,
  retention_seconds integer not null,
  deletion_seconds integer not null,
  dead_letter text,
  partition boolean not null,
  table_name text not null,
  deferred_count integer not null default 0,
  blocked_count integer not null default 0,
  queued_count integer not null default 0,
  ready_count integer not null default 0,
  warning_queued integer not null default 0,
  active_count integer not null default 0,
  failed_count integer not null default 0,
  total_count integer not null default 0,
  retained_count integer,
  retained_on timestamp with time zone,
  created_delta integer not null default 0,
  completed_delta integer not null default 0,
  failed_delta integer not null default 0,
  delta_on timestamp with time zone,
  delta_seconds integer,
  wait_bins integer[],
  run_bins integer[],
  ready_oldest_seconds integer,
  ready_history integer[] not null default '{}'::integer[],
  heartbeat_seconds integer,
  notify boolean not null default false,
  singletons_active text[],
  monitor_claim_on timestamp with time zone,
  monitor_on timestamp with time zone,
  maintain_on timestamp with time zone,
  created_on timestamp with time zone not null default now(),
  updated_on timestamp with time zone not null default now(),
  constraint queue_check CHECK ((dead_letter IS DISTINCT FROM name)),
  constraint queue_dead_letter_fkey FOREIGN KEY (dead_letter) REFERENCES keyring_jobs.queue(name),
  constraint queue_pkey PRIMARY KEY (name)
);
alter table keyring_jobs.queue owner to keyring_owner;
alter table keyring_jobs.queue enable row level security;
alter table keyring_jobs.queue force row level security;
create policy keyring_roles on keyring_jobs.queue for all to keyring_owner, keyring_service using (true) with check (true);
grant select on table keyring_jobs.queue to keyring_service;

create table keyring_jobs.queue_stats (
  id uuid not null default gen_random_uuid(),
  name text not null,
  deferred_count integer not null default 0,
  queued_count integer not null default 0,
  ready_count integer not null default 0,
  active_count integer not null default 0,
  failed_count integer not null default 0,
  total_count integer not null default 0,
  created_delta integer,
  completed_delta integer,
  failed_delta integer,
  delta_seconds integer,
  delta_on timestamp with time zone,
  wait_bins integer[],
  run_bins integer[],
  ready_oldest_seconds integer,
  captured_on timestamp with time zone not null default now(),
  constraint queue_stats_pkey PRIMARY KEY (id, captured_on)
) partition by RANGE (captured_on);
alter table keyring_jobs.queue_stats owner to keyring_owner;
alter table keyring_jobs.queue_stats enable row level security;
alter table keyring_jobs.queue_stats force row level security;
CREATE INDEX queue_stats_i1 ON ONLY keyring_jobs.queue_stats USING btree (name, captured_on DESC) INCLUDE (deferred_count, queued_count, ready_count, active_count, failed_count, total_count);
create policy keyring_roles on keyring_jobs.queue_stats for all to keyring_owner, keyring_service using (true) with check (true);

create table keyring_jobs.schedule (
  name text not null,
  key text not null default ''::text,
  kind text not null default 'cron'::text,
  cron text not null,
  timezone text default 'UTC'::text,
  data jsonb,
  options jsonb,
  created_on timestamp with time zone not null default now(),
  updated_on timestamp with time zone not null default now(),
  last_job_id uuid,
  constraint schedule_kind_check CHECK ((kind = ANY (ARRAY['cron'::text, 'rrule'::text]))),
  constraint schedule_name_fkey FOREIGN KEY (name) REFERENCES keyring_jobs.queue(name) ON DELETE CASCADE,
  constraint schedule_pkey PRIMARY KEY (name, key)
);
alter table keyring_jobs.schedule owner to keyring_owner;
alter table keyring_jobs.schedule enable row level security;
alter table keyring_jobs.schedule force row level security;
create policy keyring_roles on keyring_jobs.schedule for all to keyring_owner, keyring_service using (true) with check (true);

create table keyring_jobs.subscription (
  event text not null,
  name text not null,
  created_on timestamp with time zone not null default now(),
  updated_on timestamp with time zone not null default now(),
  constraint subscription_name_fkey FOREIGN KEY (name) REFERENCES keyring_jobs.queue(name) ON DELETE CASCADE,
  constraint subscription_pkey PRIMARY KEY (event, name)
);
alter table keyring_jobs.subscription owner to keyring_owner;
alter table keyring_jobs.subscription enable row level security;
alter table keyring_jobs.subscription force row level security;
create policy keyring_roles on keyring_jobs.subscription for all to keyring_owner, keyring_service using (true) with check (true);

create table keyring_jobs.version (
  version integer not null,
  cron_on timestamp with time zone,
  bam_on timestamp with time zone,
  flow_on timestamp with time zone,
  reindex_on timestamp with time zone,
  monitor_backoff_on timestamp with time zone,
  constraint version_pkey PRIMARY KEY (version)
);
alter table keyring_jobs.version owner to keyring_owner;
alter table keyring_jobs.version enable row level security;
alter table keyring_jobs.version force row level security;
create policy keyring_roles on keyring_jobs.version for all to keyring_owner, keyring_service using (true) with check (true);
grant select on table keyring_jobs.version to keyring_service;

create table keyring_jobs.warning (
  id uuid not null default gen_random_uuid(),
  type text not null,
  message text not null,
  data jsonb,
  created_on timestamp with time zone not null default now(),
  constraint warning_pkey PRIMARY KEY (id)
);
alter table keyring_jobs.warning owner to keyring_owner;
alter table keyring_jobs.warning enable row level security;
alter table keyring_jobs.warning force row level security;
CREATE INDEX warning_i1 ON keyring_jobs.warning USING btree (created_on DESC);
create policy keyring_roles on keyring_jobs.warning for all to keyring_owner, keyring_service using (true) with check (true);

create table public.projects (
  id uuid not null default gen_random_uuid(),
  owner uuid not null,
  name text not null,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  constraint projects_pkey PRIMARY KEY (id)
);
alter table public.projects owner to schema_migrator;
alter table public.projects enable row level security;
alter table public.projects force row level security;
CREATE INDEX idx_projects_owner ON public.projects USING btree (owner);
CREATE INDEX projects_by_name ON public.projects USING btree (name, id);
CREATE TRIGGER update_projects_updated_at BEFORE UPDATE ON public.projects FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
create policy "Keyring auditors see every project" on public.projects for select to keyring_auditor using (true);
create policy "Keyring definers hold projects, unchanged" on public.projects for update to keyring_owner using (true) with check (false);
create policy "Keyring definers see every project" on public.projects for select to keyring_owner using (true);
create policy "Keyring readers see projects" on public.projects for select to keyring_reader using (true);
create policy "Keyring readers see their own" on public.projects as restrictive for select to keyring_reader using ((('user:'::text || owner) = current_setting('keyring.principal'::text, true)));
create policy "Keyring service creates projects" on public.projects for insert to keyring_service with check (true);
create policy "Keyring service sees every project" on public.projects for select to keyring_service using (true);
create policy "Keyring users see projects" on public.projects for select to keyring_user using (true);
create policy "Keyring users see their own" on public.projects as restrictive for select to keyring_user using ((id IN ( SELECT unnest(keyring.projects_of_principal()) AS unnest)));
create policy "Users can create own projects" on public.projects for insert to public with check ((owner = auth.uid()));
create policy "Users can delete own projects" on public.projects for delete to public using ((owner = auth.uid()));
create policy "Users can update own projects" on public.projects for update to public using ((owner = auth.uid())) with check ((owner = auth.uid()));
create policy "Users can view own projects" on public.projects for select to public using ((owner = auth.uid()));
comment on table public.projects is 'The tenants: every project is a workspace of its own';
comment on column public.projects.owner is 'The user it belongs to (auth.users.id)';
grant delete, insert, select, update on table public.projects to authenticated;
grant insert, select on table public.projects to keyring_service;
grant references, select on table public.projects to keyring_owner;
grant select on column public.projects.id to keyring_auditor;
grant select on column public.projects.id to keyring_reader;
grant select on column public.projects.id to keyring_user;
grant select on column public.projects.owner to keyring_auditor;
grant select on column public.projects.owner to keyring_reader;
grant select on column public.projects.owner to keyring_user;
grant select on column public.projects.name to keyring_auditor;
grant select on column public.projects.name to keyring_user;
grant select on column public.projects.created_at to keyring_auditor;
grant select on column public.projects.created_at to keyring_user;
grant update on column public.projects.updated_at to keyring_owner;

create table public.secrets (
  id uuid not null default gen_random_uuid(),
  project_id uuid not null,
  key text not null,
  value_encrypted bytea not null,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  encryption_key_id uuid,
  value_written_at timestamp with time zone,
  constraint secrets_pkey PRIMARY KEY (id),
  constraint secrets_project_id_encryption_key_id_fkey FOREIGN KEY (project_id, encryption_key_id) REFERENCES keyring.encryption_keys(project_id, id) ON DELETE CASCADE,
  constraint secrets_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE,
  constraint secrets_project_id_key_key UNIQUE (project_id, key)
) with (fillfactor=50);
alter table public.secrets owner to schema_migrator;
alter table public.secrets enable row level security;
alter table public.secrets force row level security;
CREATE INDEX idx_secrets_project_id ON public.secrets USING btree (project_id);
CREATE TRIGGER update_secrets_updated_at BEFORE UPDATE ON public.secrets FOR EACH ROW WHEN (NOT new.encryption_key_id IS DISTINCT FROM old.encryption_key_id OR new.value_written_at IS DISTINCT FROM old.value_written_at OR new.key IS DISTINCT FROM old.key) EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER zz_keyring_fence_insert_secrets__value BEFORE INSERT ON public.secrets FOR EACH ROW EXECUTE FUNCTION keyring.fence_secrets__value();
CREATE TRIGGER zz_keyring_fence_update_secrets__value BEFORE UPDATE ON public.secrets FOR EACH ROW WHEN (CURRENT_USER <> 'keyring_mover'::name AND (old.value_encrypted IS DISTINCT FROM new.value_encrypted OR old.encryption_key_id IS DISTINCT FROM new.encryption_key_id OR old.id IS DISTINCT FROM new.id OR old.project_id IS DISTINCT FROM new.project_id)) EXECUTE FUNCTION keyring.fence_secrets__value();
create policy "Users can delete secrets in own projects" on public.secrets for delete to public using ((project_id IN ( SELECT projects.id
   FROM public.projects
  WHERE (projects.owner = auth.uid()))));
create policy "Users can update secrets in own projects" on public.secrets for update to public using ((project_id IN ( SELECT projects.id
   FROM public.projects
  WHERE (projects.owner = auth.uid())))) with check ((project_id IN ( SELECT projects.id
   FROM public.projects
  WHERE (projects.owner = auth.uid()))));
create policy "Users can view secrets in own projects" on public.secrets for select to public using ((project_id IN ( SELECT projects.id
   FROM public.projects
  WHERE (projects.owner = auth.uid()))));
create policy keyring_mover_reads on public.secrets for select to keyring_mover using (true);
create policy keyring_mover_writes on public.secrets for update to keyring_mover using (true) with check (true);
create policy keyring_owner on public.secrets for select to keyring_owner using (true);
create policy keyring_reader on public.secrets for select to keyring_reader using (true);
create policy keyring_reader_sight on public.secrets as restrictive for select to keyring_reader using (((('user:'::text || ( SELECT p.owner
   FROM public.projects p
  WHERE (p.id = secrets.project_id))) = current_setting('keyring.principal'::text, true)) OR keyring.sees_project(project_id)));
create policy keyring_service on public.secrets for all to keyring_service using (true) with check (true);
create policy keyring_user on public.secrets for select to keyring_user using (true);
create policy keyring_user_sight on public.secrets as restrictive for select to keyring_user using ((project_id IN ( SELECT unnest(keyring.projects_of_principal()) AS unnest)));
comment on table public.secrets is 'Credentials of workflows, one row a name; the values are ciphertext';
comment on column public.secrets.encryption_key_id is 'The key version value_encrypted is under; null: not encrypted yet';
comment on column public.secrets.value_written_at is 'When the value was last set; re-encrypting it does not change this';
grant delete on table public.secrets to authenticated;
grant delete on table public.secrets to service_role;
grant delete, insert, select, update on table public.secrets to keyring_service;
grant select on column public.secrets.id to authenticated;
grant select on column public.secrets.id to keyring_mover;
grant select on column public.secrets.id to keyring_owner;
grant select on column public.secrets.id to keyring_reader;
grant select on column public.secrets.id to keyring_user;
grant select on column public.secrets.id to service_role;
grant select on column public.secrets.project_id to authenticated;
grant select on column public.secrets.project_id to keyring_mover;
grant select on column public.secrets.project_id to keyring_owner;
grant select on column public.secrets.project_id to keyring_reader;
grant select on column public.secrets.project_id to keyring_user;
grant select on column public.secrets.project_id to service_role;
grant select on column public.secrets.key to keyring_reader;
grant select on column public.secrets.key to keyring_user;
grant select, update on column public.secrets.key to authenticated;
grant select, update on column public.secrets.key to service_role;
grant select on column public.secrets.value_encrypted to keyring_reader;
grant select on column public.secrets.value_encrypted to keyring_user;
grant select, update on column public.secrets.value_encrypted to keyring_mover;
grant select on column public.secrets.created_at to authenticated;
grant select on column public.secrets.created_at to keyring_user;
grant select on column public.secrets.created_at to service_role;
grant select on column public.secrets.updated_at to authenticated;
grant select on column public.secrets.updated_at to keyring_user;
grant select on column public.secrets.updated_at to service_role;
grant select on column public.secrets.encryption_key_id to authenticated;
grant select on column public.secrets.encryption_key_id to keyring_owner;
grant select on column public.secrets.encryption_key_id to keyring_reader;
grant select on column public.secrets.encryption_key_id to keyring_user;
grant select on column public.secrets.encryption_key_id to service_role;
grant select, update on column public.secrets.encryption_key_id to keyring_mover;
grant select on column public.secrets.value_written_at to authenticated;
grant select on column public.secrets.value_written_at to keyring_reader;
grant select on column public.secrets.value_written_at to keyring_user;
grant select on column public.secrets.value_written_at to service_role;

create table supabase_migrations.schema_migrations (
  version text not null,
  statements text[],
  name text,
  constraint schema_migrations_pkey PRIMARY KEY (version)
);
alter table supabase_migrations.schema_migrations owner to schema_migrator;
alter table supabase_migrations.schema_migrations disable row level security;
alter table supabase_migrations.schema_migrations no force row level security;

create sequence keyring.audit_checkpoints_id_seq as bigint start 1 increment 1 owned by keyring.audit_checkpoints (identity);
alter sequence keyring.audit_checkpoints_id_seq owner to keyring_owner;

create sequence keyring.audit_log_id_seq as bigint start 1 increment 1 owned by keyring.audit_log (identity);
alter sequence keyring.audit_log_id_seq owner to keyring_owner;

create sequence keyring.policy_revisions as bigint start 1 increment 1 owned by none;
alter sequence keyring.policy_revisions owner to keyring_owner;
grant usage on sequence keyring.policy_revisions to keyring_service;

create sequence keyring.quarantine_id_seq as bigint start 1 increment 1 owned by keyring.quarantine (identity);
alter sequence keyring.quarantine_id_seq owner to keyring_owner;

CREATE OR REPLACE FUNCTION auth.uid()
 RETURNS uuid
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
        select coalesce(
          nullif(pg_catalog.current_setting('request.jwt.claim.sub', true), ''),
          nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb ->> 'sub'
        )::pg_catalog.uuid
      $function$;
alter function auth.uid() owner to schema_migrator;
comment on function auth.uid() is 'The user of the request, from its JWT claims (as Supabase defines it)';
grant execute on function auth.uid() to anon;
grant execute on function auth.uid() to authenticated;
grant execute on function auth.uid() to keyring_owner;
grant execute on function auth.uid() to keyring_service;
grant execute on function auth.uid() to service_role;

CREATE OR REPLACE FUNCTION keyring.admit_plaintext(column_label text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    admitted boolean;
  begin
    select c.accepts_plaintext into admitted
      from keyring.encrypted_columns c where c.label = column_label for share;
    if admitted is distinct from true then
      raise exception 'plaintext is refused in %', column_label
        using errcode = 'MK002', hint = 'Write values through the keyring service.';
    end if;
  end
  $function$;
alter function keyring.admit_plaintext(text) owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.archive_audit(last_place bigint, signed_note text, who text, kind text, why text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  declare
    first_place bigint;
    removed bigint;
  begin
    perform from keyring.audit_sealer for update;
    select min(s.place) into first_place from keyring.audit_seals s;
    if first_place is null or last_place < first_place
      or not exists (select from keyring.audit_checkpoints c where c.size = last_place)
    then
      raise exception 'a range that is archived ends at a checkpoint of what is there' using errcode = 'MK005';
    end if;
    insert into keyring.audit_archives (through, note) values (last_place, signed_note);
    insert into keyring.audit_log (actor, principal_kind, action, outcome, subject, reason, details)
      values (who, kind, 'audit.archived', 'succeeded', 'audit:' || first_place || '-' || last_place, why,
        pg_catalog.jsonb_build_object('from', first_place, 'through', last_place, 'note', signed_note));
    delete from keyring.audit_log l using keyring.audit_seals s where s.entry_id = l.id and s.place <= last_place;
    get diagnostics removed = row_count;
    delete from keyring.audit_seals s where s.place <= last_place;
    delete from keyring.audit_checkpoints c where c.size < last_place;
    return removed;
  end
  $function$;
alter function keyring.archive_audit(bigint,text,text,text,text) owner to keyring_owner;
comment on function keyring.archive_audit(bigint,text,text,text,text) is 'Called by `mh-keys audit archive`, after the file is safe: removes the entries up to a checkpoint';

CREATE OR REPLACE FUNCTION keyring.begin_audit_entry()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  begin
    perform pg_catalog.pg_current_xact_id();
    return null;
  end
  $function$;
alter function keyring.begin_audit_entry() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.catalog_problems()
 RETURNS TABLE(code text, relation text, column_name text, detail text)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
AS $function$
  #variable_conflict use_column
  begin
    return query select p.code, p.relation::pg_catalog.text, p.column_name::pg_catalog.text, p.detail from (
      with registered as (
        select e.*, t.oid is not null as found, t.relrowsecurity,
          'fence_' || pg_catalog.replace(e.label, '.', '__') as fence,
          'move_' || pg_catalog.replace(e.label, '.', '__') as move
        from keyring.encrypted_columns e left join pg_catalog.pg_class t on t.oid = e.table_id
      ),
      parts as (
        select r.fence, r.ciphertext_column, r.table_id as relid from registered r where r.found
        union
        select r.fence, r.ciphertext_column, p.relid
        from registered r cross join lateral pg_catalog.pg_partition_tree(r.table_id) p where r.found
      ),
      key_references as (
        select c.conrelid, c.conkey, c.convalidated,
          c.conkey[pg_catalog.array_position(c.confkey, k.attnum)] as key_id_number
        from pg_catalog.pg_constraint c
        join pg_catalog.pg_attribute k on k.attrelid = c.confrelid and k.attname = 'id'
        where c.contype = 'f' and c.confrelid = 'keyring.encryption_keys'::pg_catalog.regclass and c.conparentid = 0
      )
      -- A column that names keys and is not in the registry: a rotation would forget it.
      select 'unregistered_column', f.conrelid::pg_catalog.regclass, a.attname,
        'has a foreign key to keyring.encryption_keys and is not registered'
      from key_references f
      join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.key_id_number
      join pg_catalog.pg_class t on t.oid = f.conrelid
      -- The keyring's own tables tell of keys; none of them holds a ciphertext.
      where t.relnamespace <> 'keyring'::pg_catalog.regnamespace
        and not exists (select from registered r where r.table_id = f.conrelid and r.key_id_column = a.attname)
      union all
      select distinct 'detaching_partition', i.inhrelid::pg_catalog.regclass, null,
        'is being detached, so that nobody counts the rows in it that name keys: finish that, then attach it again or drop it'
      from parts p
      join pg_catalog.pg_inherits i on i.inhparent = p.relid and i.inhdetachpending
      union all
      select 'missing_table', r.table_id, null, pg_catalog.format('the table registered as %s is gone', r.label)
      from registered r where not r.found
      union all
      select 'missing_column', r.table_id, w.wanted,
        pg_catalog.format('registered as %s, but the table has no such column', r.label)
      from registered r
      cross join lateral (
        values (r.row_id_column), (r.project_column), (r.ciphertext_column), (r.key_id_column)) w (wanted)
      where r.found and not exists (select from pg_catalog.pg_attribute a
        where a.attrelid = r.table_id and a.attname = w.wanted and not a.attisdropped)
      union all
      select 'missing_foreign_key', r.table_id, r.key_id_column,
        'has no validated foreign key, with its project, to keyring.encryption_keys'
      from registered r
      where r.found and not exists (select from key_references f
        join pg_catalog.pg_attribute k on k.attrelid = f.conrelid and k.attnum = f.key_id_number
        join pg_catalog.pg_attribute p on p.attrelid = f.conrelid and p.attnum = any (f.conkey)
        where f.conrelid = r.table_id and f.convalidated
          and k.attname = r.key_id_column and p.attname = r.project_column)
      union all
      -- The fence, on the table and on each of its partitions: there, enabled, and last of what can change a row.
      select 'missing_fence', p.relid, p.ciphertext_column,
        pg_catalog.format('trigger %s is missing, disabled or not the fence', w.wanted)
      from parts p
      cross join (values ('insert', 7), ('update', 19)) e (event, row_before_event)
      cross join lateral (
        select 'zz_keyring_' || pg_catalog.replace(p.fence, 'fence_', 'fence_' || e.event || '_') as wanted) w
      where not exists (select from pg_catalog.pg_trigger t join pg_catalog.pg_proc f on f.oid = t.tgfoid
        where t.tgrelid = p.relid and t.tgname = w.wanted and t.tgenabled in ('O', 'A')
          and t.tgtype = e.row_before_event
          and f.proname = p.fence and f.pronamespace = 'keyring'::pg_catalog.regnamespace)
      union all
      -- What the sweep moves rows with: it names the table as it was called when the column was registered.
      select 'missing_move', r.table_id, r.ciphertext_column,
        pg_catalog.format('function keyring.%s is missing or was made for another table: register the column again', r.move)
      from registered r
      where r.found and not exists (select from pg_catalog.pg_proc f
        where f.proname = r.move and f.pronamespace = 'keyring'::pg_catalog.regnamespace
          and f.prosecdef and pg_catalog.pg_get_userbyid(f.proowner) = 'keyring_mover'
          and f.proconfig[1] = 'search_path=pg_catalog, pg_temp'
          and f.proargtypes[2] = (select y.typarray from pg_catalog.pg_attribute a
            join pg_catalog.pg_type y on y.oid = a.atttypid
            where a.attrelid = r.table_id and a.attname = r.row_id_column)
          and f.prosrc = keyring.move_body(r.label, r.table_id, r.ciphertext_column, r.key_id_column, r.row_id_column,
            r.project_column))
      union all
      select distinct 'trigger_after_fence', p.relid, t.tgname,
        'fires after the fence and could change what it checked: rename it to sort before zz_keyring'
      from parts p
      join pg_catalog.pg_trigger t on t.tgrelid = p.relid
      join pg_catalog.pg_proc f on f.oid = t.tgfoid
      where t.tgparentid = 0 and t.tgenabled <> 'D' and t.tgname > 'zz_keyring_fence_'
        and (t.tgtype & 3) = 3 and (t.tgtype & 20) <> 0
        and f.pronamespace <> 'keyring'::pg_catalog.regnamespace
      union all
      -- A child that inherits is no partition: it has none of the triggers, and its rows are counted with the parent's.
      select 'inherited_table', i.inhrelid, null, pg_catalog.format('inherits from %s and has no fence', r.table_id)
      from registered r
      join pg_catalog.pg_inherits i on i.inhparent = r.table_id
      join pg_catalog.pg_class child on child.oid = i.inhrelid and not child.relispartition
      where r.found
      union all
      -- A sweep addresses a row by its id, and the associated data binds it. PostgreSQL cannot promise that a partitioned table's
      -- ids are unique over its partitions; for UUIDs chance does.
      select 'row_id_not_unique', r.table_id, r.row_id_column,
        'is not the primary key, nor unique (with the project) and not null: it does not say which row is meant'
      from registered r
      join pg_catalog.pg_class t on t.oid = r.table_id
      join pg_catalog.pg_attribute a on a.attrelid = r.table_id and a.attname = r.row_id_column
      where not (a.attnotnull and exists (
        select from pg_catalog.pg_index x
        where x.indrelid = r.table_id and x.indisunique and x.indisvalid and x.indpred is null and x.indexprs is null
          and a.attnum = any (x.indkey)
          and ((t.relkind = 'p' and a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype)
            or not exists (select from pg_catalog.unnest(x.indkey::pg_catalog.int2[]) k (number)
              join pg_catalog.pg_attribute c on c.attrelid = r.table_id and c.attnum = k.number
              where c.attname not in (r.row_id_column, r.project_column)))))
      union all
      select 'row_security_off', r.table_id, null,
        'row-level security is off on a table that holds ciphertext'
      from registered r where r.found and not r.relrowsecurity
      union all
      -- Under row-level security a row that the counting definer may not see is not counted, and nobody is told.
      select 'hidden_rows', r.table_id, null,
        'row-level security hides rows from keyring_owner, which counts what names a key: register the column again'
      from registered r
      cross join lateral (
        select
          coalesce(pg_catalog.bool_or(p.polpermissive and pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'), false)
            as sees_all,
          coalesce(pg_catalog.bool_or(not p.polpermissive), false) as restricted
        from pg_catalog.pg_policy p
        where p.polrelid = r.table_id and p.polcmd in ('r', '*')
          and exists (select from pg_catalog.unnest(p.polroles) g (role)
            where case when g.role = 0 then true else pg_catalog.pg_has_role(current_user, g.role, 'usage') end)
      ) v
      where r.relrowsecurity and (v.restricted or not v.sees_all)
    ) p (code, relation, column_name, detail)
    order by 2, 3, 1;
  end
  $function$;
alter function keyring.catalog_problems() owner to keyring_owner;
comment on function keyring.catalog_problems() is 'Every way in which the registry and the catalog disagree';
grant execute on function keyring.catalog_problems() to keyring_service;

CREATE OR REPLACE FUNCTION keyring.check_row_id_type()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  declare
    kind pg_catalog.regtype;
    modifier pg_catalog.int4;
    folds pg_catalog.bool;
  begin
    if exists (select from keyring.encrypted_columns e
      where e.label = new.label and e.table_id = new.table_id and e.row_id_column = new.row_id_column)
    then
      return new;
    end if;
    select a.atttypid, a.atttypmod, not coalesce(l.collisdeterministic, true) into kind, modifier, folds
      from pg_catalog.pg_attribute a left join pg_catalog.pg_collation l on l.oid = a.attcollation
      where a.attrelid = new.table_id and a.attname = new.row_id_column and not a.attisdropped;
    if not found then
      -- `missing_column` says so.
      return new;
    end if;
    while exists (select from pg_catalog.pg_type t where t.oid = kind and t.typtype = 'd') loop
      select t.typbasetype, t.typtypmod into kind, modifier from pg_catalog.pg_type t where t.oid = kind;
    end loop;
    if folds or (kind = 'pg_catalog.numeric'::pg_catalog.regtype and modifier < 0) or kind <> all (array[
      'pg_catalog.uuid', 'pg_catalog.int2', 'pg_catalog.int4', 'pg_catalog.int8', 'pg_catalog.numeric', 'pg_catalog.text',
      'pg_catalog.varchar', 'pg_catalog.bpchar', 'pg_catalog.name']::pg_catalog.regtype[])
    then
      raise exception 'row_id_type: column % of % is of type %, whose text is not always the same for the same id',
        new.row_id_column, new.table_id,
        (select pg_catalog.format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a
          where a.attrelid = new.table_id and a.attname = new.row_id_column)
        using errcode = 'MK005',
          hint = 'Name a unique column that is a uuid, an integer, a numeric with a scale, or text of a deterministic collation.';
    end if;
    return new;
  end
  $function$;
alter function keyring.check_row_id_type() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.envelope_key_id(envelope bytea)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
    select case
      when pg_catalog.octet_length(envelope) between 46 and 65582
        and pg_catalog.get_byte(envelope, 0) = 1
        and pg_catalog.get_byte(envelope, 1) = 1
      then pg_catalog.encode(pg_catalog.substr(envelope, 3, 16), 'hex')::pg_catalog.uuid
    end
  $function$;
alter function keyring.envelope_key_id(bytea) owner to keyring_owner;
grant execute on function keyring.envelope_key_id(bytea) to public;

CREATE OR REPLACE FUNCTION keyring.erase_wrapping_key()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  begin
    delete from keyring.wrapped_wrapping_keys c where c.wrapping_key_id = new.id;
    return null;
  end
  $function$;
alter function keyring.erase_wrapping_key() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.exposed_secrets(of_key uuid)
 RETURNS TABLE(label text, row_id text, name text, written_at timestamp with time zone, replaced_at timestamp with time zone)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    version pg_catalog.record;
    entry pg_catalog.record;
  begin
    select k.project_id, k.activated_at, coalesce(k.deactivated_at, 'infinity') as ended into version
      from keyring.encryption_keys k where k.id = of_key and k.activated_at is not null;
    if not found then
      return;
    end if;

    return query
      with trail as (
        select t.*,
          lead(t.at) over (partition by t.of_label, t.of_row order by t.id) as until,
          pg_catalog.row_number() over (partition by t.of_label, t.of_row order by t.id) as nth
        from (
          select a.id, a.action, a.at, a.details ->> 'name' as secret_name, a.details ->> 'key' as key_id,
            -- Was there a value before it?
            case a.action when 'row.written' then a.details ->> 'previousKey' is not null
              when 'secret.deleted' then true else a.details ->> 'created' = 'false' end as replaces,
            case a.action when 'row.written' then a.details ->> 'label' else 'secrets.value' end as of_label,
            case a.action when 'row.written' then a.details ->> 'row' else pg_catalog.substr(a.subject, 8) end as of_row
          from keyring.audit_log a
          where a.project_id = version.project_id and a.action in ('secret.written', 'secret.deleted', 'row.written')
        ) t
      )
      select w.of_label, w.of_row, w.secret_name, w.at, w.until
      from trail w
      -- Written under it, whatever the clocks say; or moved to it, of which only they tell.
      where w.action <> 'secret.deleted' and (w.key_id = of_key::pg_catalog.text
        or w.at < version.ended and coalesce(w.until, 'infinity') > version.activated_at)
      union all
      -- A trail that begins with a change: the value before it (an adopted one) is known only by its end.
      select w.of_label, w.of_row, w.secret_name, null, w.at
      from trail w
      where w.nth = 1 and w.replaces and w.at > version.activated_at
      order by 3, 4 nulls first;

    for entry in select * from keyring.encrypted_columns c order by c.label loop
      return query execute pg_catalog.format(
        'select %1$L::pg_catalog.text, t.%2$I::pg_catalog.text, null::pg_catalog.text, null::pg_catalog.timestamptz, null::pg_catalog.timestamptz
         from %3$s t
         left join (
           select distinct on (e.of_row) e.of_row, e.action from (
             select a.id, a.action,
               case a.action when ''row.written'' then a.details ->> ''row'' else pg_catalog.substr(a.subject, 8) end as of_row
             from keyring.audit_log a
             where a.project_id = $1
               and case when %1$L = ''secrets.value'' then a.action in (''secret.written'', ''secret.deleted'')
                 else a.action = ''row.written'' and a.details ->> ''label'' = %1$L end
           ) e order by e.of_row, e.id desc) last on last.of_row = t.%2$I::pg_catalog.text
         where t.%4$I = $1 and t.%5$I is not null
           -- Where the last that the trail says is that it was written, the value is among those above, if it was under the version.
           and (last.action is null or last.action = ''secret.deleted'')
         order by 2',
        entry.label, entry.row_id_column, entry.table_id, entry.project_column, entry.key_id_column)
        using version.project_id;
    end loop;
  end
  $function$;
alter function keyring.exposed_secrets(uuid) owner to keyring_owner;
comment on function keyring.exposed_secrets(uuid) is 'Values of a project that were ever under this version; no times where only the row itself is known';
grant execute on function keyring.exposed_secrets(uuid) to keyring_service;

CREATE OR REPLACE FUNCTION keyring.exposed_secrets_in_sight(of_key uuid)
 RETURNS TABLE(label text, row_id text, name text, written_at timestamp with time zone, replaced_at timestamp with time zone)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
    select e.* from keyring.encryption_keys k, keyring.exposed_secrets(k.id) e
    where k.id = of_key and k.project_id = any (keyring.projects_of_principal())
  $function$;
alter function keyring.exposed_secrets_in_sight(uuid) owner to keyring_owner;
grant execute on function keyring.exposed_secrets_in_sight(uuid) to keyring_user;

CREATE OR REPLACE FUNCTION keyring.fence_secrets__value()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
        declare
          primary_id pg_catalog.uuid;
        begin
          if tg_op = 'UPDATE' then
            if new.id is distinct from old.id or new.project_id is distinct from old.project_id then
              raise exception 'row id and project of an encrypted row never change' using errcode = 'MK004';
            end if;
          end if;
          if new.encryption_key_id is null and new.value_encrypted is null then
            -- No value: none is under any version.
            return new;
          end if;
          if tg_op = 'UPDATE' then
            if new.encryption_key_id is null and old.encryption_key_id is not null then
              raise exception 'plaintext is refused in secrets.value' using errcode = 'MK002';
            end if;
          end if;
          if new.encryption_key_id is null then
            perform keyring.admit_plaintext('secrets.value');
            return new;
          end if;
          if keyring.envelope_key_id(new.value_encrypted) is distinct from new.encryption_key_id then
            raise exception 'the envelope does not name the key of its row in secrets.value' using errcode = 'MK003';
          end if;
          if tg_op = 'INSERT' then
            -- The project first, which the foreign key would take last: the order in which deleting a project goes.
            perform from public.projects p where p.id = new.project_id for key share;
          end if;
          perform pg_catalog.pg_advisory_xact_lock_shared(keyring.project_lock(new.project_id));
          select k.primary_key_id into primary_id
            from keyring.keyrings k where k.project_id = new.project_id for share;
          if primary_id is distinct from new.encryption_key_id then
            perform keyring.refuse_stale('secrets.value', new.encryption_key_id);
          end if;
          return new;
        end
        $function$;
alter function keyring.fence_secrets__value() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.fence_wrapped_keys()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET enable_hashjoin TO 'on'
 SET enable_nestloop TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
  declare
    misnamed pg_catalog.bool;
    named pg_catalog.uuid[];
    primary_id pg_catalog.uuid;
    stale_id pg_catalog.uuid;
  begin
    if tg_op = 'INSERT' then
      select pg_catalog.bool_or(keyring.envelope_key_id(w.wrapped_key) is distinct from w.wrapping_key_id),
          pg_catalog.array_agg(distinct w.wrapping_key_id)
        into misnamed, named
        from written w
        where w.wrapped_key is not null;
    else
      -- Who changes anything else of a key waits in no queue.
      select pg_catalog.bool_or(keyring.envelope_key_id(w.wrapped_key) is distinct from w.wrapping_key_id),
          pg_catalog.array_agg(distinct w.wrapping_key_id)
        into misnamed, named
        from written w left join replaced r on r.id = w.id
        where w.wrapped_key is not null
          and (w.wrapped_key is distinct from r.wrapped_key or w.wrapping_key_id is distinct from r.wrapping_key_id);
    end if;
    if named is null then
      return null;
    end if;
    if misnamed then
      raise exception 'the wrapped key of a row in % does not name its wrapping key', tg_table_name using errcode = 'MK003';
    end if;
    perform pg_catalog.pg_advisory_xact_lock_shared(keyring.wrapping_lock());
    select i.wrapping_key_id into primary_id from keyring.installation i for share;
    foreach stale_id in array named loop
      if primary_id is distinct from stale_id then
        perform keyring.refuse_stale_wrapping(stale_id);
      end if;
    end loop;
    return null;
  end
  $function$;
alter function keyring.fence_wrapped_keys() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.finish_adoption(column_label text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    closed pg_catalog.bool;
    remaining bigint;
  begin
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
      raise exception 'finishing an adoption needs read committed: an older snapshot would miss rows' using errcode = 'MK005';
    end if;
    if exists (select from keyring.catalog_problems() p where p.code = 'hidden_rows') then
      raise exception 'row-level security hides rows from the count' using errcode = 'MK006';
    end if;
    update keyring.encrypted_columns set accepts_plaintext = false where label = column_label and accepts_plaintext;
    closed := found;
    if not closed and not exists (select from keyring.encrypted_columns c where c.label = column_label) then
      raise exception 'no encrypted column is registered as %', column_label using errcode = 'MK005';
    end if;
    -- A new statement: it sees every plaintext row of the transactions that the update waited for.
    select coalesce(sum(r.row_count), 0) into remaining
      from keyring.reference_counts() r where r.label = column_label and r.encryption_key_id is null;
    if remaining > 0 then
      raise exception '% plaintext rows are left in %', remaining, column_label using errcode = 'MK006';
    end if;
    return closed;
  end
  $function$;
alter function keyring.finish_adoption(text) owner to keyring_owner;
grant execute on function keyring.finish_adoption(text) to keyring_service;

CREATE OR REPLACE FUNCTION keyring.guard_access_settings()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  begin
    if old.two_people and not new.two_people and keyring.two_person_rule()
      and not keyring.is_approved('rule.switch_off', 'rule:two_people')
    then
      raise exception 'another admin has to approve this' using errcode = 'MK010';
    end if;
    return new;
  end
  $function$;
alter function keyring.guard_access_settings() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_admins()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  declare
    changed keyring.grants;
  begin
    if tg_op = 'DELETE' then changed := old; else changed := new; end if;
    if changed.role <> 'instance_admin' then
      return changed;
    end if;
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
      raise exception 'admins change under read committed: an older snapshot would miss another change' using errcode = 'MK005';
    end if;
    -- One after the other: two who each leave two admins would leave one.
    perform from keyring.access_settings s for update;
    if keyring.two_person_rule() then
      if tg_op = 'INSERT' and not keyring.is_approved('admin.grant', changed.person) then
        raise exception 'another admin has to approve this' using errcode = 'MK010';
      end if;
      if tg_op = 'DELETE' and not keyring.is_approved('admin.remove', changed.person)
        and (select count(distinct g.person) from keyring.grants g
          where g.role = 'instance_admin' and g.person <> changed.person) < 2
      then
        raise exception 'another admin has to approve this: it would end the rule of two people' using errcode = 'MK010';
      end if;
    end if;
    return changed;
  end
  $function$;
alter function keyring.guard_admins() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_api_token()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  begin
    if (new.id, new.name, new.digest, new.role, new.permissions, new.project_ids, new.person, new.created_by, new.created_at,
        new.expires_at)
      is distinct from (old.id, old.name, old.digest, old.role, old.permissions, old.project_ids, old.person, old.created_by,
        old.created_at, old.expires_at)
    then
      raise exception 'what a token may do never changes: make another one' using errcode = 'MK004';
    end if;
    if old.revoked_at is not null then
      raise exception 'revoked is for good' using errcode = 'MK005';
    end if;
    return new;
  end
  $function$;
alter function keyring.guard_api_token() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_approval()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  begin
    if tg_op = 'INSERT' then
      if new.state = 'waived' then
        if keyring.two_person_rule() then
          raise exception 'two admins exist: nothing is waived' using errcode = 'MK010';
        end if;
        new.consumed_at := pg_catalog.clock_timestamp();
        new.consumed_in := pg_catalog.pg_current_xact_id();
      elsif new.state <> 'pending' or (new.decided_by, new.decider, new.decided_at, new.consumed_at, new.consumed_in)
        is distinct from (null::pg_catalog.text, null::pg_catalog.text, null::pg_catalog.timestamptz,
          null::pg_catalog.timestamptz, null::pg_catalog.xid8)
      then
        raise exception 'an approval begins as a request' using errcode = 'MK005';
      end if;
      new.requested_at := pg_catalog.clock_timestamp();
      new.expires_at := new.requested_at + interval '24 hours';
      return new;
    end if;

    if (new.id, new.action, new.subject, new.project_id, new.reason, new.requested_by, new.requester, new.requested_at,
        new.expires_at)
      is distinct from (old.id, old.action, old.subject, old.project_id, old.reason, old.requested_by, old.requester,
        old.requested_at, old.expires_at)
    then
      raise exception 'what was asked for never changes' using errcode = 'MK004';
    end if;
    if old.state = 'pending' and new.state in ('approved', 'rejected') then
      -- What nobody decided in time may be rejected by nobody, to make room for another request.
      if (new.decider is null or new.decided_by is null) and (new.state = 'approved' or old.expires_at > pg_catalog.clock_timestamp())
      then
        raise exception 'somebody decides' using errcode = 'MK005';
      end if;
      if new.state = 'approved' then
        if old.expires_at <= pg_catalog.clock_timestamp() then
          raise exception 'the request has expired' using errcode = 'MK005';
        end if;
        if new.decider = old.requester then
          raise exception 'nobody approves what they asked for' using errcode = 'MK010';
        end if;
        if not exists (select from keyring.grants g where g.role = 'instance_admin' and g.person = new.decider) then
          raise exception 'only an admin approves' using errcode = 'MK010';
        end if;
      end if;
      new.decided_at := pg_catalog.clock_timestamp();
      return new;
    end if;
    if old.state = 'approved' and new.state = 'consumed' then
      if old.expires_at <= pg_catalog.clock_timestamp() then
        raise exception 'the approval has expired' using errcode = 'MK010';
      end if;
      -- Somebody who is no admin any more has not approved.
      if not exists (select from keyring.grants g where g.role = 'instance_admin' and g.person = old.decider) then
        raise exception 'who approved is no admin any more' using errcode = 'MK010';
      end if;
      if (new.decided_by, new.decider, new.decided_at) is distinct from (old.decided_by, old.decider, old.decided_at) then
        raise exception 'what was decided never changes' using errcode = 'MK004';
      end if;
      new.consumed_at := pg_catalog.clock_timestamp();
      new.consumed_in := pg_catalog.pg_current_xact_id();
      return new;
    end if;
    if old.state = 'approved' and new.state = 'rejected' and old.expires_at <= pg_catalog.clock_timestamp() then
      return new;
    end if;
    raise exception 'an approval does not go from % to %', old.state, new.state using errcode = 'MK005';
  end
  $function$;
alter function keyring.guard_approval() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_audit_checkpoint()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  declare
    floor_before bigint;
  begin
    if new.size is distinct from coalesce((select max(s.place) from keyring.audit_seals s),
      (select max(a.through) from keyring.audit_archives a))
    then
      raise exception 'a checkpoint is of the whole chain' using errcode = 'MK005';
    end if;
    select coalesce(max(c.floor_id), 0) into floor_before from keyring.audit_checkpoints c
      where c.id = (select max(b.id) from keyring.audit_checkpoints b);
    if new.floor_id < floor_before
      or new.floor_id > floor_before and new.floor_id > (select coalesce(max(l.id), 0) from keyring.audit_log l)
      or exists (
        select from keyring.audit_log l where l.id > floor_before and l.id <= new.floor_id
          and not exists (select from keyring.audit_seals s where s.entry_id = l.id))
    then
      raise exception 'up to the floor every entry has its place' using errcode = 'MK005';
    end if;
    return new;
  end
  $function$;
alter function keyring.guard_audit_checkpoint() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_audit_seals()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  declare
    first_place bigint;
    last_place bigint;
    places bigint;
    taken bigint;
  begin
    select min(n.place), max(n.place), count(*) into first_place, last_place, places from sealed n;
    if places = 0 then
      return null;
    end if;
    select greatest(
      (select coalesce(max(s.place), 0) from keyring.audit_seals s where s.place < first_place),
      (select coalesce(max(a.through), 0) from keyring.audit_archives a)) into taken;
    if first_place <> taken + 1 or last_place - first_place + 1 <> places then
      raise exception 'places in the chain follow one another' using errcode = 'MK005';
    end if;
    if exists (select from sealed n where not exists (select from keyring.audit_log l where l.id = n.entry_id)) then
      raise exception 'a place in the chain is an entry''s' using errcode = 'MK005';
    end if;
    return null;
  end
  $function$;
alter function keyring.guard_audit_seals() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_encryption_key()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    named pg_catalog.record;
  begin
    if tg_op = 'DELETE' then
      -- Only as the cascade of its project's end: by a trigger of the foreign key, with the project gone. Seeing no project
      -- is not enough, since a policy could hide it.
      if pg_catalog.pg_trigger_depth() < 2 or exists (select from public.projects p where p.id = old.project_id) then
        raise exception 'key versions are destroyed, never deleted' using errcode = 'MK005';
      end if;
      return old;
    end if;

    if (new.id, new.project_id, new.version, new.algorithm, new.fingerprint, new.created_at)
      is distinct from (old.id, old.project_id, old.version, old.algorithm, old.fingerprint, old.created_at)
    then
      raise exception 'the identity of a key version never changes' using errcode = 'MK004';
    end if;
    if old.state = 'destroyed' then
      raise exception 'a destroyed version never changes' using errcode = 'MK005';
    end if;
    if old.compromised_at is not null and (new.compromised_at is distinct from old.compromised_at
      or new.state not in ('compromised', 'destroyed'))
    then
      raise exception 'compromised is for good' using errcode = 'MK005';
    end if;
    if old.rolled_back_at is not null and new.rolled_back_at is distinct from old.rolled_back_at then
      raise exception 'rolled back is for good' using errcode = 'MK005';
    end if;
    if old.retention_until is not null and (new.retention_until is null or new.retention_until < old.retention_until)
      and not (new.retention_until is not null and keyring.is_approved('key.destroy_early', 'key:' || old.id))
    then
      raise exception 'a retention window is shortened by two people only' using errcode = 'MK008';
    end if;
    if new.retention_until is distinct from old.retention_until
      and exists (select from keyring.keyrings k where k.project_id = old.project_id and k.primary_key_id = old.id)
    then
      raise exception 'a primary version is not retired' using errcode = 'MK006';
    end if;
    if new.state = old.state then
      return new;
    end if;
    -- From here on the state moves: enabled ⇄ disabled, either → compromised, any of them → destroyed.

    if exists (select from keyring.keyrings k where k.project_id = old.project_id and k.primary_key_id = old.id) then
      raise exception 'the version is primary' using errcode = 'MK006';
    end if;
    -- What still opens is nobody's loss. A version that is suspended or destroyed opens nothing: not while a row names it.
    if new.state not in ('disabled', 'destroyed') then
      return new;
    end if;

    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
      raise exception 'suspending and destroying need read committed: an older snapshot would miss references'
        using errcode = 'MK005';
    end if;
    -- An update's own lock does not conflict with the `key share` of a row in flight that names this version; `for
    -- update` does, and waits for it. What is read after it, in statements of their own, is then the whole truth.
    perform from keyring.encryption_keys k where k.id = old.id for update;
    if exists (select from keyring.keyrings k where k.project_id = old.project_id and k.primary_key_id = old.id) then
      raise exception 'the version is primary' using errcode = 'MK006';
    end if;
    if new.state = 'destroyed' and old.activated_at is not null and old.retention_until is null then
      raise exception 'the version was not retired by a finished rotation' using errcode = 'MK008';
    end if;
    if new.state = 'destroyed' and old.retention_until > pg_catalog.clock_timestamp() then
      raise exception 'the retention window ends at %', old.retention_until using errcode = 'MK008';
    end if;
    if exists (select from keyring.rotation_projects p
      where p.project_id = old.project_id and old.id in (p.source_key_id, p.target_key_id)
        and p.state not in ('completed', 'rolled_back', 'canceled', 'failed'))
    then
      raise exception 'an open rotation needs the version' using errcode = 'MK006';
    end if;
    if new.state <> 'destroyed' then
      -- One that is destroyed has this asked once a statement, before the first and after the last of them.
      perform keyring.require_sound_catalog();
    end if;
    for named in select r.label, r.row_count from keyring.reference_counts(old.project_id) r
      where r.encryption_key_id = old.id
    loop
      raise exception '% rows of % name the version', named.row_count, named.label using errcode = 'MK006';
    end loop;
    return new;
  end
  $function$;
alter function keyring.guard_encryption_key() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_installation()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    candidate pg_catalog.text;
  begin
    if tg_op = 'DELETE' then
      raise exception 'the pointer to the wrapping key stays' using errcode = 'MK005';
    end if;
    update keyring.wrapping_keys w set promoted_at = coalesce(w.promoted_at, pg_catalog.clock_timestamp())
      where w.id = new.wrapping_key_id returning w.state into candidate;
    if candidate is distinct from 'enabled' then
      raise exception 'only an enabled wrapping key can be primary (this one is %)', coalesce(candidate, 'unknown')
        using errcode = 'MK005';
    end if;
    return new;
  end
  $function$;
alter function keyring.guard_installation() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_key_ends()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  begin
    perform keyring.require_sound_catalog();
    return null;
  end
  $function$;
alter function keyring.guard_key_ends() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_key_usage()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  begin
    if (new.key_id, new.project_id) <> (old.key_id, old.project_id) or new.reserved < old.reserved
      or new.last_used_at < old.last_used_at or (new.last_used_at is null and old.last_used_at is not null)
    then
      raise exception 'a usage count only grows' using errcode = 'MK005';
    end if;
    return new;
  end
  $function$;
alter function keyring.guard_key_usage() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_keyring()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    candidate pg_catalog.record;
  begin
    if tg_op = 'UPDATE' and new.project_id is distinct from old.project_id then
      raise exception 'a keyring stays with its project' using errcode = 'MK004';
    end if;
    -- Waits for a destroy of this version that is under way, and makes a later one wait for us. Not `for share`: of two first
    -- keyrings, each would hold what the other's note_promotion then updates.
    select k.state, k.rolled_back_at, k.retention_until, k.created_at into candidate
      from keyring.encryption_keys k
      where k.project_id = new.project_id and k.id = new.primary_key_id
      for no key update;
    if candidate.state is distinct from 'enabled' then
      raise exception 'only an enabled version can be primary (this one is %)', coalesce(candidate.state, 'unknown')
        using errcode = 'MK005';
    end if;
    if candidate.rolled_back_at is not null then
      raise exception 'a version that was rolled back is never promoted again' using errcode = 'MK005';
    end if;
    if candidate.retention_until is not null then
      raise exception 'a version whose retention has begun is never promoted again' using errcode = 'MK005';
    end if;
    new.primary_made_at := candidate.created_at;
    return new;
  end
  $function$;
alter function keyring.guard_keyring() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_retention()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  declare
    fallback pg_catalog.interval;
    was pg_catalog.interval;
    becomes pg_catalog.interval;
    project pg_catalog.uuid;
  begin
    if tg_op = 'UPDATE' and new.project_id is distinct from old.project_id then
      raise exception 'a policy stays with its project' using errcode = 'MK004';
    end if;
    select p.retention into fallback from keyring.rotation_policies p where p.project_id is null;
    if tg_op = 'DELETE' then
      project := old.project_id;
      was := coalesce(old.retention, fallback);
      becomes := fallback;
    elsif tg_op = 'INSERT' then
      project := new.project_id;
      was := fallback;
      becomes := coalesce(new.retention, fallback);
    else
      project := new.project_id;
      was := coalesce(old.retention, fallback);
      becomes := coalesce(new.retention, fallback);
    end if;
    if becomes < was and pg_catalog.pg_trigger_depth() < 2 and keyring.two_person_rule()
      and not keyring.is_approved('retention.shorten', keyring.retention_subject(project, becomes))
    then
      raise exception 'another admin has to approve a shorter retention' using errcode = 'MK010';
    end if;
    if tg_op = 'DELETE' then return old; end if;
    return new;
  end
  $function$;
alter function keyring.guard_retention() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_root_key()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  begin
    if tg_op = 'DELETE' then
      raise exception 'root keys are kept in the list' using errcode = 'MK005';
    end if;
    if (new.id, new.fingerprint, new.created_at) is distinct from (old.id, old.fingerprint, old.created_at) then
      raise exception 'the identity of a root key never changes' using errcode = 'MK004';
    end if;
    if old.state in ('compromised', 'destroyed') and new.state <> old.state
      and not (old.state = 'compromised' and new.state = 'destroyed')
    then
      raise exception '% is for good', old.state using errcode = 'MK005';
    end if;
    if new.state = 'enabled' or old.state <> 'enabled' then
      return new;
    end if;
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
      raise exception 'this needs read committed: an older snapshot would miss another root key''s end' using errcode = 'MK005';
    end if;
    perform pg_catalog.pg_advisory_xact_lock(keyring.roots_lock());
    if exists (select from keyring.wrapping_keys w where w.state <> 'destroyed' and not exists (
      select from keyring.wrapped_wrapping_keys c join keyring.root_keys r on r.id = c.root_key_id
      where c.wrapping_key_id = w.id and r.id <> old.id and r.state = 'enabled'))
    then
      raise exception 'no other enabled root key opens every wrapping key' using errcode = 'MK006';
    end if;
    return new;
  end
  $function$;
alter function keyring.guard_root_key() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_rotation_project()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  begin
    if (new.rotation_id, new.project_id) is distinct from (old.rotation_id, old.project_id) then
      raise exception 'the identity of a rotation never changes' using errcode = 'MK004';
    end if;
    if old.source_key_id is not null and new.source_key_id is distinct from old.source_key_id
      or old.target_key_id is not null and new.target_key_id is distinct from old.target_key_id
    then
      raise exception 'source and target of a rotation never change once set' using errcode = 'MK004';
    end if;
    if old.direction = 'back' and new.direction <> 'back' then
      raise exception 'a rollback is not turned around' using errcode = 'MK005';
    end if;
    if new.state <> old.state and not (case old.state
      when 'requested' then new.state in ('staged', 'blocked', 'canceled', 'failed')
      when 'staged' then new.state in ('sweeping', 'blocked', 'canceled', 'failed')
      when 'sweeping' then new.state in ('verifying', 'blocked', 'rolling_back', 'canceled')
      when 'verifying' then new.state in ('completed', 'sweeping', 'blocked', 'rolling_back', 'rolled_back', 'canceled')
      when 'blocked' then new.state in ('requested', 'staged', 'sweeping', 'rolling_back', 'canceled')
      when 'rolling_back' then new.state in ('rolled_back', 'blocked', 'canceled')
      else false
    end) then
      raise exception 'a rotation does not go from % to %', old.state, new.state using errcode = 'MK005';
    end if;
    return new;
  end
  $function$;
alter function keyring.guard_rotation_project() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_signing_key()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  begin
    raise exception 'a signing key changes its wrapping and nothing else' using errcode = 'MK004';
  end
  $function$;
alter function keyring.guard_signing_key() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_upper_rotation()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  begin
    if tg_op = 'DELETE' then
      raise exception 'rotations are kept' using errcode = 'MK007';
    end if;
    if (new.id, new.kind, new.leaked, new.from_root_key_id, new.to_root_key_id, new.from_wrapping_key_id, new.requested_by,
        new.reason, new.requested_at)
      is distinct from (old.id, old.kind, old.leaked, old.from_root_key_id, old.to_root_key_id, old.from_wrapping_key_id,
        old.requested_by, old.reason, old.requested_at)
      or old.to_wrapping_key_id is not null and new.to_wrapping_key_id is distinct from old.to_wrapping_key_id
    then
      raise exception 'the identity of a rotation never changes' using errcode = 'MK004';
    end if;
    if old.finished_at is not null then
      raise exception 'a rotation that has ended never changes' using errcode = 'MK005';
    end if;
    if old.direction = 'back' and new.direction <> 'back' then
      raise exception 'a rollback is not turned around' using errcode = 'MK005';
    end if;
    if new.leaked and new.direction = 'back' then
      raise exception 'there is no way back to a key that leaked' using errcode = 'MK005';
    end if;
    if new.direction = 'back' and new.state in ('rewrapping', 'verifying', 'completed') then
      raise exception 'a rollback does not go forward' using errcode = 'MK005';
    end if;
    if new.state <> old.state and not (case old.state
      when 'requested' then new.state in ('prepared', 'canceled', 'failed')
      when 'prepared' then new.state in ('canceled', 'failed')
        or new.state = case new.kind when 'root' then 'completed' else 'rewrapping' end
      when 'rewrapping' then new.state in ('verifying', 'blocked', 'rolling_back')
      when 'verifying' then new.state in ('completed', 'rewrapping', 'blocked', 'rolling_back')
      when 'blocked' then new.state in ('rewrapping', 'rolling_back')
      when 'rolling_back' then new.state in ('rolled_back', 'blocked')
      else false
    end) then
      raise exception 'a rotation does not go from % to %', old.state, new.state using errcode = 'MK005';
    end if;
    return new;
  end
  $function$;
alter function keyring.guard_upper_rotation() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_wrapped_copy()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    found_state pg_catalog.text;
  begin
    if tg_op = 'UPDATE' then
      raise exception 'a wrapped key never changes' using errcode = 'MK004';
    end if;
    if tg_op = 'INSERT' then
      select w.state into found_state from keyring.wrapping_keys w where w.id = new.wrapping_key_id for share;
      if found_state is null or found_state = 'destroyed' then
        raise exception 'the wrapping key is %', coalesce(found_state, 'unknown') using errcode = 'MK005';
      end if;
      select r.state into found_state from keyring.root_keys r where r.id = new.root_key_id for share;
      if found_state is distinct from 'enabled' then
        raise exception 'the root key is %', coalesce(found_state, 'unknown') using errcode = 'MK005';
      end if;
      return new;
    end if;
    perform pg_catalog.pg_advisory_xact_lock(keyring.roots_lock());
    if exists (select from keyring.wrapping_keys w where w.id = old.wrapping_key_id and w.state = 'destroyed')
      or exists (select from keyring.wrapped_wrapping_keys c join keyring.root_keys r on r.id = c.root_key_id
        where c.wrapping_key_id = old.wrapping_key_id and c.root_key_id <> old.root_key_id and r.state = 'enabled')
    then
      return old;
    end if;
    raise exception 'no other enabled root key opens the wrapping key' using errcode = 'MK006';
  end
  $function$;
alter function keyring.guard_wrapped_copy() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.guard_wrapping_key()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    keys pg_catalog.int8;
  begin
    if tg_op = 'DELETE' then
      raise exception 'wrapping keys are destroyed, never deleted' using errcode = 'MK005';
    end if;
    if (new.id, new.version, new.fingerprint, new.created_at)
      is distinct from (old.id, old.version, old.fingerprint, old.created_at)
    then
      raise exception 'the identity of a wrapping key never changes' using errcode = 'MK004';
    end if;
    if old.state = 'destroyed' then
      raise exception 'a destroyed wrapping key never changes' using errcode = 'MK005';
    end if;
    if old.compromised_at is not null and new.compromised_at is distinct from old.compromised_at
      or old.exposed_at is not null and new.exposed_at is distinct from old.exposed_at
    then
      raise exception 'compromised is for good' using errcode = 'MK005';
    end if;
    if new.state = old.state then
      return new;
    end if;
    if not (case old.state
      when 'enabled' then new.state in ('disabled', 'compromised', 'destroyed')
      when 'disabled' then new.state in ('compromised', 'destroyed')
      else new.state = 'destroyed'
    end) then
      raise exception 'a wrapping key does not go from % to %', old.state, new.state using errcode = 'MK005';
    end if;
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
      raise exception 'this needs read committed: an older snapshot would miss the pointer' using errcode = 'MK005';
    end if;
    -- Our lock on this row is the one that a promote to it wants: what is read now is the whole truth.
    if exists (select from keyring.installation i where i.wrapping_key_id = old.id) then
      raise exception 'the wrapping key is primary' using errcode = 'MK006';
    end if;
    if new.state <> 'destroyed' then
      return new;
    end if;

    -- Conflicts with the `key share` of a key in flight that names this one, as an update's own lock would not.
    perform from keyring.wrapping_keys w where w.id = old.id for update;
    if exists (select from keyring.upper_rotations r
      where r.finished_at is null and old.id in (r.from_wrapping_key_id, r.to_wrapping_key_id))
    then
      raise exception 'an open rotation needs the wrapping key' using errcode = 'MK006';
    end if;
    select count(*) into keys from keyring.encryption_keys k where k.wrapping_key_id = old.id and k.wrapped_key is not null;
    if keys > 0 then
      raise exception '% data keys are under the wrapping key', keys using errcode = 'MK006';
    end if;
    select count(*) into keys from keyring.signing_keys k where k.wrapping_key_id = old.id;
    if keys > 0 then
      raise exception '% signing keys are under the wrapping key', keys using errcode = 'MK006';
    end if;
    return new;
  end
  $function$;
alter function keyring.guard_wrapping_key() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.is_approved(the_action text, the_subject text)
 RETURNS boolean
 LANGUAGE sql
 SET search_path TO ''
AS $function$
    select exists (select from keyring.approvals a
      where a.action = the_action and a.subject = the_subject and a.consumed_in = pg_catalog.pg_current_xact_id_if_assigned())
  $function$;
alter function keyring.is_approved(text,text) owner to keyring_owner;
grant execute on function keyring.is_approved(text,text) to keyring_service;

CREATE OR REPLACE FUNCTION keyring.lock_primaries(of_projects uuid[])
 RETURNS TABLE(project_id uuid, primary_key_id uuid)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    queued pg_catalog.uuid[];
  begin
    select pg_catalog.array_agg(p.id) into queued
      from (
        select distinct keyring.project_lock(u.id) as lock, u.id from pg_catalog.unnest(of_projects) u (id) order by 1, 2
      ) p
      where pg_catalog.pg_try_advisory_xact_lock_shared(p.lock);
    return query
      select k.project_id, k.primary_key_id from keyring.keyrings k
      where k.project_id = any (queued) order by k.project_id for share skip locked;
  end
  $function$;
alter function keyring.lock_primaries(uuid[]) owner to keyring_owner;
comment on function keyring.lock_primaries(uuid[]) is 'Holds the primary version of these projects until the transaction ends; those of which it cannot at once are left out';
grant execute on function keyring.lock_primaries(uuid[]) to keyring_mover;

CREATE OR REPLACE FUNCTION keyring.mirror_audit_log()
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  declare
    caller text := pg_catalog.current_setting('role');
    id_sequence text;
    columns text := '';
    given text := '';
    one record;
  begin
    if pg_catalog.to_regclass('public.audit_log') is null then
      return false;
    end if;
    grant insert on public.audit_log to keyring_owner;
    if exists (select from pg_catalog.pg_attribute a
      where a.attrelid = 'public.audit_log'::regclass and a.attname = 'id' and not a.attisdropped)
    then
      id_sequence := pg_catalog.pg_get_serial_sequence('public.audit_log', 'id');
    end if;
    if id_sequence is not null then
      execute 'grant usage on sequence ' || id_sequence || ' to keyring_owner';
    end if;
    -- Inert where the table is under no row-level security.
    if not exists (select from pg_catalog.pg_policy p
      where p.polrelid = 'public.audit_log'::regclass and p.polname = 'Keyring shows its entries')
    then
      create policy "Keyring shows its entries" on public.audit_log for insert to keyring_owner with check (true);
    end if;

    -- Columns that MeshHook has not are left out.
    for one in
      select a.attname as name, pg_catalog.format('%I.%I%s', s.nspname, t.typname,
          pg_catalog.substring(pg_catalog.format_type(a.atttypid, a.atttypmod), '[(][0-9,]+[)]')) as type,
        case a.attname
          when 'resource_type' then 'pg_catalog.split_part(n.subject, '':'', 1)'
          when 'resource_id' then 'pg_catalog.substr(n.subject, pg_catalog.strpos(n.subject, '':'') + 1)'
          when 'metadata' then 'n.details || pg_catalog.jsonb_build_object(''actor'', n.actor, ''outcome'', n.outcome, ''reason'', n.reason)'
          when 'ip_address' then 'case when n.source_address ~ ''^[0-9a-fA-F.:]+$'' then n.source_address end'
          else 'n.at'
        end as expression
      from pg_catalog.pg_attribute a
      join pg_catalog.pg_type t on t.oid = a.atttypid
      join pg_catalog.pg_namespace s on s.oid = t.typnamespace
      where a.attrelid = 'public.audit_log'::regclass and not a.attisdropped
        and a.attname in ('resource_type', 'resource_id', 'metadata', 'ip_address', 'created_at')
    loop
      columns := columns || pg_catalog.format(', %I', one.name);
      given := given || pg_catalog.format(', (%s)::%s', one.expression, one.type);
    end loop;
    perform pg_catalog.set_config('role', 'keyring_owner', true);
    -- Ours is the record: whatever goes wrong with theirs undoes nothing, and is a warning in the server's log. Who is no user of MeshHook's
    -- has the nil id.
    execute pg_catalog.format('create or replace function keyring.mirror_audit_entries() returns trigger
      language plpgsql security definer set search_path = '''' as %L', '
      begin
        insert into public.audit_log (project_id, user_id, action' || columns || ')
          select n.project_id, coalesce(case when n.principal_kind in (''user'', ''session'') then
              pg_catalog.substring(n.actor, ''[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'')::pg_catalog.uuid end,
              ''00000000-0000-0000-0000-000000000000''), n.action' || given || '
          from written n where n.project_id is not null and n.action <> ''project.deleted'' order by n.id;
        return null;
      exception when others then
        raise warning ''an entry of the keyring is not in public.audit_log: %'', sqlstate;
        return null;
      end');
    revoke execute on function keyring.mirror_audit_entries() from public;
    create or replace trigger mirror_audit_entries after insert on keyring.audit_log
      referencing new table as written for each statement
      when (pg_catalog.to_regclass('public.audit_log') is not null)
      execute function keyring.mirror_audit_entries();
    perform pg_catalog.set_config('role', caller, true);
    return true;
  end
  $function$;
alter function keyring.mirror_audit_log() owner to keyring_owner;
comment on function keyring.mirror_audit_log() is 'Shows entries in MeshHook''s public.audit_log from now on: run as its owner, and again when its columns changed';

CREATE OR REPLACE FUNCTION keyring.move_body(column_label text, in_table regclass, ciphertext_column name, key_id_column name, row_id_column name, project_column name)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
  declare
    partitioned pg_catalog.bool := (select c.relkind = 'p' from pg_catalog.pg_class c where c.oid = in_table);
    found pg_catalog.text := case when partitioned then $found$
        select r.tableoid as part, r.ctid as place, b.row_id, r.%3$I as project, b.new_envelope
        from unnest(row_ids, old_envelopes, new_envelopes) b (row_id, old_envelope, new_envelope)
        join %1$s r on r.%2$I = b.row_id
        where r.%3$I = any (projects) and r.%5$I is not null and r.%4$I = b.old_envelope
        for no key update of r skip locked$found$
      else $found$
        select t.place, b.row_id, t.project, b.new_envelope
        from unnest(places, row_ids, old_envelopes, new_envelopes) b (place, row_id, old_envelope, new_envelope)
        cross join lateral (
          select r.ctid as place, r.%3$I as project from %1$s r
          where r.ctid = b.place and r.%2$I = b.row_id
            and r.%3$I = any (projects) and r.%5$I is not null and r.%4$I = b.old_envelope
          for no key update skip locked) t$found$
      end;
  begin
    return pg_catalog.format($move$
    #variable_conflict use_variable
    declare
      projects pg_catalog.uuid[];
      primaries pg_catalog.uuid[];
      moved_projects pg_catalog.uuid[];
      counts pg_catalog.int8[];
      refused pg_catalog.bool;
      refused_key pg_catalog.uuid;
      meddled pg_catalog.bool;
    begin
      select pg_catalog.array_agg(l.project_id), pg_catalog.array_agg(l.primary_key_id) into projects, primaries
        from keyring.lock_primaries(of_projects) l;
      if projects is null then
        return;
      end if;
      -- A new statement, which sees what was committed before the locks were had.
      with held as materialized (
        select f.*, p.id as primary_id, coalesce(keyring.envelope_key_id(f.new_envelope) = p.id, false) as fits
        from (%7$s
        ) f
        cross join lateral (select primaries[pg_catalog.array_position(projects, f.project)] as id) p
      ), moved as (
        update %1$s r set %4$I = h.new_envelope, %5$I = h.primary_id
        from held h where h.fits and r.ctid = h.place%8$s
        returning r.%3$I as project, coalesce(r.%2$I = h.row_id and r.%3$I = h.project
          and r.%4$I = h.new_envelope and r.%5$I = h.primary_id, false) as intact
      )
      select pg_catalog.array_agg(m.project), pg_catalog.array_agg(m.row_count),
          exists (select from held h where not h.fits),
          (select keyring.envelope_key_id(h.new_envelope) from held h where not h.fits limit 1),
          pg_catalog.bool_or(m.meddled)
        into moved_projects, counts, refused, refused_key, meddled
        from (
          select m.project, pg_catalog.count(*) as row_count, pg_catalog.bool_or(not m.intact) as meddled
          from moved m group by m.project) m;
      if refused then
        perform keyring.refuse_stale(%6$L, refused_key);
      end if;
      if meddled then
        raise exception 'a trigger changed what a sweep wrote in %6$s' using errcode = 'MK003';
      end if;
      return query select m.project, m.row_count from unnest(moved_projects, counts) m (project, row_count);
    end
    $move$, in_table, row_id_column, project_column, ciphertext_column, key_id_column, column_label,
      pg_catalog.format(found, in_table, row_id_column, project_column, ciphertext_column, key_id_column),
      case when partitioned then ' and r.tableoid = h.part' else '' end);
  end
  $function$;
alter function keyring.move_body(text,regclass,name,name,name,name) owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.move_secrets__value(of_projects uuid[], places tid[], row_ids uuid[], old_envelopes bytea[], new_envelopes bytea[])
 RETURNS TABLE(project_id uuid, moved bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
AS $function$
    #variable_conflict use_variable
    declare
      projects pg_catalog.uuid[];
      primaries pg_catalog.uuid[];
      moved_projects pg_catalog.uuid[];
      counts pg_catalog.int8[];
      refused pg_catalog.bool;
      refused_key pg_catalog.uuid;
      meddled pg_catalog.bool;
    begin
      select pg_catalog.array_agg(l.project_id), pg_catalog.array_agg(l.primary_key_id) into projects, primaries
        from keyring.lock_primaries(of_projects) l;
      if projects is null then
        return;
      end if;
      -- A new statement, which sees what was committed before the locks were had.
      with held as materialized (
        select f.*, p.id as primary_id, coalesce(keyring.envelope_key_id(f.new_envelope) = p.id, false) as fits
        from (
        select t.place, b.row_id, t.project, b.new_envelope
        from unnest(places, row_ids, old_envelopes, new_envelopes) b (place, row_id, old_envelope, new_envelope)
        cross join lateral (
          select r.ctid as place, r.project_id as project from public.secrets r
          where r.ctid = b.place and r.id = b.row_id
            and r.project_id = any (projects) and r.encryption_key_id is not null and r.value_encrypted = b.old_envelope
          for no key update skip locked) t
        ) f
        cross join lateral (select primaries[pg_catalog.array_position(projects, f.project)] as id) p
      ), moved as (
        update public.secrets r set value_encrypted = h.new_envelope, encryption_key_id = h.primary_id
        from held h where h.fits and r.ctid = h.place
        returning r.project_id as project, coalesce(r.id = h.row_id and r.project_id = h.project
          and r.value_encrypted = h.new_envelope and r.encryption_key_id = h.primary_id, false) as intact
      )
      select pg_catalog.array_agg(m.project), pg_catalog.array_agg(m.row_count),
          exists (select from held h where not h.fits),
          (select keyring.envelope_key_id(h.new_envelope) from held h where not h.fits limit 1),
          pg_catalog.bool_or(m.meddled)
        into moved_projects, counts, refused, refused_key, meddled
        from (
          select m.project, pg_catalog.count(*) as row_count, pg_catalog.bool_or(not m.intact) as meddled
          from moved m group by m.project) m;
      if refused then
        perform keyring.refuse_stale('secrets.value', refused_key);
      end if;
      if meddled then
        raise exception 'a trigger changed what a sweep wrote in secrets.value' using errcode = 'MK003';
      end if;
      return query select m.project, m.row_count from unnest(moved_projects, counts) m (project, row_count);
    end
    $function$;
alter function keyring.move_secrets__value(uuid[],tid[],uuid[],bytea[],bytea[]) owner to keyring_mover;
grant execute on function keyring.move_secrets__value(uuid[],tid[],uuid[],bytea[],bytea[]) to keyring_service;

CREATE OR REPLACE FUNCTION keyring.not_asked_before(of_project uuid, since timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
 SET search_path TO ''
 SET enable_seqscan TO 'off'
AS $function$
    select greatest(
      (select max(g.finished_at) + interval '24 hours' from keyring.rotation_projects g
        where g.project_id = of_project and g.state in ('rolled_back', 'canceled') and g.finished_at >= since),
      (select max(g.finished_at) + least(interval '24 hours', interval '1 hour' * power(2, least(count(*), 6) - 1))
        from keyring.rotation_projects g
        where g.project_id = of_project and g.state = 'failed' and g.finished_at >= since))
  $function$;
alter function keyring.not_asked_before(uuid,timestamp with time zone) owner to keyring_owner;
comment on function keyring.not_asked_before(uuid,timestamp with time zone) is 'When a project is due again whose rotation did not complete since its version was promoted: 24 hours after it was turned back or canceled; 1, 2, 4 hours and so on, 24 at most, after it failed. Null: at once';
grant execute on function keyring.not_asked_before(uuid,timestamp with time zone) to keyring_service;
grant execute on function keyring.not_asked_before(uuid,timestamp with time zone) to keyring_user;

CREATE OR REPLACE FUNCTION keyring.note_keyring_end()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  begin
    if pg_catalog.pg_trigger_depth() < 2 or exists (select from public.projects p where p.id = old.project_id) then
      raise exception 'a keyring lives as long as its project' using errcode = 'MK005';
    end if;
    update keyring.rotation_projects
      set state = 'canceled', finished_at = pg_catalog.now(), error_code = 'project_deleted'
      where project_id = old.project_id and state not in ('completed', 'rolled_back', 'canceled', 'failed');
    insert into keyring.audit_log (actor, principal_kind, action, outcome, project_id, subject)
      values ('database:' || session_user, 'system', 'project.deleted', 'succeeded', old.project_id, 'project:' || old.project_id);
    return old;
  end
  $function$;
alter function keyring.note_keyring_end() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.note_notification()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    told pg_catalog.text := case new.action when 'approval.requested' then 'approval.wanted' else new.action end;
  begin
    insert into keyring.notifications (event, body)
      select told, pg_catalog.jsonb_build_object('type', told, 'timestamp', new.at, 'data', pg_catalog.jsonb_build_object(
        'subject', new.subject, 'projectId', new.project_id, 'outcome', new.outcome, 'details', new.details))
      from keyring.notification_endpoint e where told = any (e.events);
    return null;
  end
  $function$;
alter function keyring.note_notification() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.note_promotion()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  begin
    update keyring.encryption_keys k
      set activated_at = coalesce(k.activated_at, pg_catalog.clock_timestamp()), deactivated_at = null
      where k.id = new.primary_key_id;
    return null;
  end
  $function$;
alter function keyring.note_promotion() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.note_promotions()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
  begin
    -- The clock, not `now()`: a promote may have begun long before it got its turn, and values were written under the old
    -- version meanwhile. The exposure report compares with these times.
    update keyring.encryption_keys k set
      activated_at = case when n.promoted then coalesce(k.activated_at, pg_catalog.clock_timestamp()) else k.activated_at end,
      deactivated_at = case when n.promoted then null else pg_catalog.clock_timestamp() end
      from (
        select b.key_id, pg_catalog.bool_or(b.promoted) as promoted
        from (
          select w.primary_key_id as key_id, true as promoted from written w
          union all
          select r.primary_key_id, false from replaced r
        ) b
        group by b.key_id
      ) n
      where k.id = n.key_id;
    return null;
  end
  $function$;
alter function keyring.note_promotions() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.open_restore_door(reason text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  begin
    insert into keyring.restore_doors (transaction_id, reason)
      values (pg_catalog.pg_current_xact_id(), open_restore_door.reason)
      on conflict (transaction_id) do nothing;
    insert into keyring.audit_log (actor, principal_kind, action, outcome, subject, reason)
      values ('database:' || session_user, 'system', 'restore.door_opened', 'succeeded',
        'transaction:' || pg_catalog.pg_current_xact_id()::text, open_restore_door.reason);
  end
  $function$;
alter function keyring.open_restore_door(text) owner to keyring_owner;
comment on function keyring.open_restore_door(text) is 'Lets the rest of this transaction restore ciphertext under old versions (docs/runbooks/restore-old-rows.md)';

CREATE OR REPLACE FUNCTION keyring.project_lock(project uuid)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$ select pg_catalog.uuid_hash_extended(project, 5577006791947779410) $function$;
alter function keyring.project_lock(uuid) owner to keyring_owner;
grant execute on function keyring.project_lock(uuid) to keyring_service;

CREATE OR REPLACE FUNCTION keyring.projects_of_principal()
 RETURNS uuid[]
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    the_principal pg_catalog.text := pg_catalog.current_setting('keyring.principal', true);
    noted pg_catalog.text := pg_catalog.current_setting('keyring.sight', true);
    the_person pg_catalog.text := the_principal;
    of_token pg_catalog.uuid[];
    found_projects pg_catalog.uuid[];
  begin
    if pg_catalog.starts_with(noted, the_principal || ' ') then
      return pg_catalog.substr(noted, pg_catalog.length(the_principal) + 2)::pg_catalog.uuid[];
    end if;
    if pg_catalog.starts_with(the_principal, 'token:') then
      select t.project_ids, t.person into of_token, the_person from keyring.api_tokens t
        where t.id = pg_catalog.substr(the_principal, 7)::pg_catalog.uuid
          and t.revoked_at is null and t.expires_at > pg_catalog.clock_timestamp();
    end if;
    found_projects := array(
      select p.id from public.projects p
      where p.owner = case
          when the_person ~ '^user:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
          then pg_catalog.substr(the_person, 6)::pg_catalog.uuid
        end
      union all
      select g.project_id from keyring.grants g where g.person = the_person and g.project_id is not null);
    -- A token that is somebody's does no more than they may by now; one that is nobody's, what was said when it was made.
    if of_token is not null then
      if the_person !~ '^(user|person):' or exists (
        select from keyring.grants g where g.person = the_person and g.project_id is null)
      then
        found_projects := of_token;
      else
        found_projects := array(
          select pg_catalog.unnest(of_token) intersect select pg_catalog.unnest(found_projects));
      end if;
    end if;
    noted := pg_catalog.set_config('keyring.sight', the_principal || ' ' || found_projects::pg_catalog.text, true);
    return found_projects;
  end
  $function$;
alter function keyring.projects_of_principal() owner to keyring_owner;
comment on function keyring.projects_of_principal() is 'The projects of the principal that this transaction reads for: what keyring_user sees rows of';
grant execute on function keyring.projects_of_principal() to keyring_user;

CREATE OR REPLACE FUNCTION keyring.reference_counts(of_project uuid DEFAULT NULL::uuid)
 RETURNS TABLE(project_id uuid, encryption_key_id uuid, label text, row_count bigint)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  declare
    entry pg_catalog.record;
  begin
    -- An entry whose table or columns are gone is left out: catalog_problems() names it, and whoever relies on every column
    -- being counted asks that first.
    for entry in
      select c.label, c.table_id, c.project_column, c.key_id_column
      from keyring.encrypted_columns c
      where 2 = (select count(*) from pg_catalog.pg_attribute a
        where a.attrelid = c.table_id and not a.attisdropped and a.attname in (c.project_column, c.key_id_column))
      order by c.label
    loop
      return query execute pg_catalog.format(
        'select t.%1$I, t.%2$I, $2, count(*) from %3$s t where ($1 is null or t.%1$I = $1) group by 1, 2',
        entry.project_column, entry.key_id_column, entry.table_id)
        using of_project, entry.label;
    end loop;
  end
  $function$;
alter function keyring.reference_counts(uuid) owner to keyring_owner;
comment on function keyring.reference_counts(uuid) is 'Rows per project, key version and registered column; a null key id counts rows not encrypted yet';
grant execute on function keyring.reference_counts(uuid) to keyring_service;

CREATE OR REPLACE FUNCTION keyring.reference_counts_in_sight(of_projects uuid[])
 RETURNS TABLE(project_id uuid, encryption_key_id uuid, label text, row_count bigint)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
    select * from keyring.reference_counts_of(
      array(select pg_catalog.unnest(of_projects) intersect select pg_catalog.unnest(keyring.projects_of_principal())))
  $function$;
alter function keyring.reference_counts_in_sight(uuid[]) owner to keyring_owner;
grant execute on function keyring.reference_counts_in_sight(uuid[]) to keyring_user;

CREATE OR REPLACE FUNCTION keyring.reference_counts_of(of_projects uuid[])
 RETURNS TABLE(project_id uuid, encryption_key_id uuid, label text, row_count bigint)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO ''
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
  declare
    entry pg_catalog.record;
  begin
    -- As in reference_counts: what is missing, catalog_problems() names.
    for entry in
      select c.label, c.table_id, c.project_column, c.key_id_column
      from keyring.encrypted_columns c
      where 2 = (select count(*) from pg_catalog.pg_attribute a
        where a.attrelid = c.table_id and not a.attisdropped and a.attname in (c.project_column, c.key_id_column))
      order by c.label
    loop
      -- Project by project, so that it is the index that is asked, however many rows the planner thinks there are.
      return query execute pg_catalog.format(
        'select p.id, n.key_id, $2, n.row_count from pg_catalog.unnest($1) p (id)
         cross join lateral (
           select t.%2$I as key_id, count(*) as row_count from %3$s t where t.%1$I = p.id group by 1) n',
        entry.project_column, entry.key_id_column, entry.table_id)
        using of_projects, entry.label;
    end loop;
  end
  $function$;
alter function keyring.reference_counts_of(uuid[]) owner to keyring_owner;
comment on function keyring.reference_counts_of(uuid[]) is 'reference_counts of these projects, each named once';
grant execute on function keyring.reference_counts_of(uuid[]) to keyring_service;

CREATE OR REPLACE FUNCTION keyring.refuse_audit_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  declare
    last_place bigint;
  begin
    if tg_op = 'DELETE' then
      select a.through into last_place from keyring.audit_archives a
        where a.transaction_id = pg_catalog.pg_current_xact_id_if_assigned();
      if last_place is not null then
        if tg_table_name = 'audit_log' then
          if exists (select from keyring.audit_seals s where s.entry_id = old.id and s.place <= last_place) then
            return old;
          end if;
        elsif tg_table_name = 'audit_seals' then
          if old.place <= last_place then
            return old;
          end if;
        elsif tg_table_name = 'audit_checkpoints' then
          if old.size < last_place then
            return old;
          end if;
        end if;
      end if;
    end if;
    raise exception 'the audit log is append-only' using errcode = 'MK007';
  end
  $function$;
alter function keyring.refuse_audit_change() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.refuse_receipt_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  begin
    raise exception 'receipts and signing keys are kept as they are' using errcode = 'MK007';
  end
  $function$;
alter function keyring.refuse_receipt_change() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.refuse_stale(column_label text, stale_key_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  begin
    if exists (select from keyring.restore_doors d
      where d.transaction_id = pg_catalog.pg_current_xact_id_if_assigned())
    then
      -- Waits for a destroy that is under way, and a later one waits for us and counts the row.
      if exists (select from keyring.encryption_keys k
        where k.id = stale_key_id and k.state <> 'destroyed' for key share)
      then
        return;
      end if;
      raise exception 'the version % of a row in % is destroyed: it would never open', stale_key_id, column_label
        using errcode = 'MK006';
    end if;
    raise exception 'stale key version in %', column_label using errcode = 'MK001',
      hint = 'Read the primary version again and encrypt with it.';
  end
  $function$;
alter function keyring.refuse_stale(text,uuid) owner to keyring_owner;
grant execute on function keyring.refuse_stale(text,uuid) to keyring_mover;

CREATE OR REPLACE FUNCTION keyring.refuse_stale_wrapping(stale_id uuid)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  begin
    if exists (select from keyring.restore_doors d
      where d.transaction_id = pg_catalog.pg_current_xact_id_if_assigned())
    then
      -- Waits for a destroy that is under way, and a later one waits for us and counts the row.
      if exists (select from keyring.wrapping_keys w where w.id = stale_id and w.state <> 'destroyed' for key share) then
        return;
      end if;
      raise exception 'the wrapping key % is destroyed: what is under it would never open', stale_id using errcode = 'MK006';
    end if;
    raise exception 'stale wrapping key %', stale_id using errcode = 'MK009',
      hint = 'Read the pointer again and wrap with the key it names.';
  end
  $function$;
alter function keyring.refuse_stale_wrapping(uuid) owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.refuse_truncate()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  begin
    raise exception 'keys are never truncated away' using errcode = 'MK005';
  end
  $function$;
alter function keyring.refuse_truncate() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.register_encrypted_column(column_label text, in_table regclass, ciphertext_column name, key_id_column name, row_id_column name DEFAULT 'id'::name, project_column name DEFAULT 'project_id'::name)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  declare
    suffix text := pg_catalog.replace(column_label, '.', '__');
    fence text := 'fence_' || suffix;
    move text := 'move_' || suffix;
    row_id_array text;
    outdated pg_catalog.regprocedure;
    problem pg_catalog.record;
  begin
    insert into keyring.encrypted_columns
      (label, table_id, row_id_column, project_column, ciphertext_column, key_id_column)
      values (column_label, in_table, row_id_column, project_column, ciphertext_column, key_id_column)
      on conflict (label) do update set
        table_id = excluded.table_id, row_id_column = excluded.row_id_column,
        project_column = excluded.project_column, ciphertext_column = excluded.ciphertext_column,
        key_id_column = excluded.key_id_column;

    execute pg_catalog.format($fence$
      create or replace function keyring.%1$I() returns trigger
        language plpgsql security definer set search_path = ''
        as $trigger$
        declare
          primary_id pg_catalog.uuid;
        begin
          if tg_op = 'UPDATE' then
            if new.%2$I is distinct from old.%2$I or new.%3$I is distinct from old.%3$I then
              raise exception 'row id and project of an encrypted row never change' using errcode = 'MK004';
            end if;
          end if;
          if new.%5$I is null and new.%4$I is null then
            -- No value: none is under any version.
            return new;
          end if;
          if tg_op = 'UPDATE' then
            if new.%5$I is null and old.%5$I is not null then
              raise exception 'plaintext is refused in %6$s' using errcode = 'MK002';
            end if;
          end if;
          if new.%5$I is null then
            perform keyring.admit_plaintext(%6$L);
            return new;
          end if;
          if keyring.envelope_key_id(new.%4$I) is distinct from new.%5$I then
            raise exception 'the envelope does not name the key of its row in %6$s' using errcode = 'MK003';
          end if;
          if tg_op = 'INSERT' then
            -- The project first, which the foreign key would take last: the order in which deleting a project goes.
            perform from public.projects p where p.id = new.%3$I for key share;
          end if;
          perform pg_catalog.pg_advisory_xact_lock_shared(keyring.project_lock(new.%3$I));
          select k.primary_key_id into primary_id
            from keyring.keyrings k where k.project_id = new.%3$I for share;
          if primary_id is distinct from new.%5$I then
            perform keyring.refuse_stale(%6$L, new.%5$I);
          end if;
          return new;
        end
        $trigger$
      $fence$, fence, row_id_column, project_column, ciphertext_column, key_id_column, column_label);
    execute pg_catalog.format('revoke execute on function keyring.%I() from public', fence);
    execute pg_catalog.format('alter function keyring.%I() owner to keyring_owner', fence);

    execute pg_catalog.format('drop trigger if exists %I on %s', 'zz_keyring_fence_insert_' || suffix, in_table);
    execute pg_catalog.format('drop trigger if exists %I on %s', 'zz_keyring_fence_update_' || suffix, in_table);
    execute pg_catalog.format(
      'create trigger %I before insert on %s for each row execute function keyring.%I()',
      'zz_keyring_fence_insert_' || suffix, in_table, fence);
    execute pg_catalog.format(
      'create trigger %1$I before update on %2$s for each row when (
         current_user <> ''keyring_mover'' and (
           old.%3$I is distinct from new.%3$I or old.%4$I is distinct from new.%4$I
           or old.%5$I is distinct from new.%5$I or old.%6$I is distinct from new.%6$I))
       execute function keyring.%7$I()',
      'zz_keyring_fence_update_' || suffix, in_table, ciphertext_column, key_id_column, row_id_column, project_column,
      fence);

    select pg_catalog.format('%I.%I', n.nspname, y.typname) into row_id_array
      from pg_catalog.pg_attribute a
      join pg_catalog.pg_type t on t.oid = a.atttypid
      join pg_catalog.pg_type y on y.oid = t.typarray
      join pg_catalog.pg_namespace n on n.oid = y.typnamespace
      where a.attrelid = in_table and a.attname = row_id_column;
    for outdated in
      select p.oid from pg_catalog.pg_proc p where p.pronamespace = 'keyring'::pg_catalog.regnamespace and p.proname = move
    loop
      execute pg_catalog.format('drop function %s', outdated);
    end loop;
    -- The plan is the same for any batch: by address, and never by way of the whole table.
    execute pg_catalog.format(
      'create function keyring.%I(of_projects pg_catalog.uuid[], places pg_catalog.tid[], row_ids %s,
         old_envelopes pg_catalog.bytea[], new_envelopes pg_catalog.bytea[])
       returns table (project_id pg_catalog.uuid, moved pg_catalog.int8)
       language plpgsql security definer set search_path = pg_catalog, pg_temp %s as %L',
      move, row_id_array,
      case when exists (select from pg_catalog.pg_class c where c.oid = in_table and c.relkind = 'p') then ''
        else 'set plan_cache_mode = force_generic_plan set enable_seqscan = off' end,
      keyring.move_body(column_label, in_table, ciphertext_column, key_id_column, row_id_column, project_column));
    execute pg_catalog.format('revoke execute on function keyring.%I from public', move);
    -- Who is given a function must be allowed to create one there; nobody is for longer than that.
    grant create on schema keyring to keyring_mover;
    execute pg_catalog.format('alter function keyring.%I owner to keyring_mover', move);
    revoke create on schema keyring from keyring_mover;
    execute pg_catalog.format('grant execute on function keyring.%I to keyring_service', move);

    -- Keys go only when their project does (guard_encryption_key): what names them goes with them, however many tables
    -- below the project it is. A plain reference would refuse the delete before a table of the second level was reached.
    if not exists (select from pg_catalog.pg_constraint c
      join pg_catalog.pg_attribute k on k.attrelid = c.conrelid and k.attname = key_id_column
      join pg_catalog.pg_attribute p on p.attrelid = c.conrelid and p.attname = project_column
      where c.conrelid = in_table and c.contype = 'f' and c.confrelid = 'keyring.encryption_keys'::regclass
        and k.attnum = any (c.conkey) and p.attnum = any (c.conkey))
    then
      execute pg_catalog.format(
        'alter table %s add foreign key (%I, %I) references keyring.encryption_keys (project_id, id) on delete cascade',
        in_table, project_column, key_id_column);
    end if;

    -- The service reads and writes the row; the definers that count references read two columns of it.
    execute pg_catalog.format('grant select, insert, update, delete on %s to keyring_service', in_table);
    execute pg_catalog.format('grant select (%I, %I, %I) on %s to keyring_owner',
      row_id_column, project_column, key_id_column, in_table);
    execute pg_catalog.format('alter table %s enable row level security', in_table);
    execute pg_catalog.format('drop policy if exists keyring_service on %s', in_table);
    execute pg_catalog.format(
      'create policy keyring_service on %s to keyring_service using (true) with check (true)', in_table);
    execute pg_catalog.format('drop policy if exists keyring_owner on %s', in_table);
    execute pg_catalog.format('create policy keyring_owner on %s for select to keyring_owner using (true)', in_table);

    -- What moves rows finds them by their address, reads five columns and changes two; on a partition, it says which.
    execute pg_catalog.format('grant select (tableoid, ctid, %I, %I, %I, %I), update (%I, %I) on %s to keyring_mover',
      row_id_column, project_column, ciphertext_column, key_id_column, ciphertext_column, key_id_column, in_table);
    execute pg_catalog.format('drop policy if exists keyring_mover_reads on %s', in_table);
    execute pg_catalog.format('drop policy if exists keyring_mover_writes on %s', in_table);
    execute pg_catalog.format(
      'create policy keyring_mover_reads on %s for select to keyring_mover using (true)', in_table);
    execute pg_catalog.format(
      'create policy keyring_mover_writes on %s for update to keyring_mover using (true) with check (true)', in_table);

    for problem in select p.code, p.column_name, p.detail from keyring.catalog_problems() p
      where p.relation = in_table::text and p.code in ('missing_column', 'row_id_not_unique', 'inherited_table')
    loop
      raise exception '%: column % of % %', problem.code, problem.column_name, in_table, problem.detail
        using errcode = 'MK005';
    end loop;
  end
  $function$;
alter function keyring.register_encrypted_column(text,regclass,name,name,name,name) owner to keyring_owner;
comment on function keyring.register_encrypted_column(text,regclass,name,name,name,name) is 'Registers an encrypted column and puts the fence, the foreign key, grants and policies on its table';

CREATE OR REPLACE FUNCTION keyring.require_sound_catalog()
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
  declare
    named pg_catalog.record;
  begin
    for named in select p.code, p.relation, p.column_name from keyring.catalog_problems() p loop
      raise exception 'rows that name the version could be missed: % (% %)', named.code, named.relation, named.column_name
        using errcode = 'MK006', hint = 'Mend what keyring.catalog_problems() names.';
    end loop;
  end
  $function$;
alter function keyring.require_sound_catalog() owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring.retention_subject(project uuid, retention interval)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
    select 'policy:' || coalesce(project::pg_catalog.text, 'default') || ':'
      || pg_catalog.date_part('epoch', retention)::pg_catalog.int8
  $function$;
alter function keyring.retention_subject(uuid,interval) owner to keyring_owner;
grant execute on function keyring.retention_subject(uuid,interval) to keyring_service;

CREATE OR REPLACE FUNCTION keyring.roots_lock()
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$ select 5577006791947779412::pg_catalog.int8 $function$;
alter function keyring.roots_lock() owner to keyring_owner;
comment on function keyring.roots_lock() is 'Whoever takes a way into a wrapping key away has it alone: two would each leave the other';

CREATE OR REPLACE FUNCTION keyring.rotations_of_principal()
 RETURNS SETOF uuid
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER ROWS 100
 SET search_path TO ''
AS $function$
  declare
    own pg_catalog.uuid[] := keyring.projects_of_principal();
  begin
    return query
      select r.rotation_id from (select distinct g.rotation_id from keyring.rotation_projects g where g.project_id = any (own)) r
      where not exists (select from keyring.rotation_projects o where o.rotation_id = r.rotation_id and o.project_id <> all (own));
  end
  $function$;
alter function keyring.rotations_of_principal() owner to keyring_owner;
comment on function keyring.rotations_of_principal() is 'Rotations that have no project but the principal''s';
grant execute on function keyring.rotations_of_principal() to keyring_user;

CREATE OR REPLACE FUNCTION keyring.schema_version()
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$ select '20261128001200' $function$;
alter function keyring.schema_version() owner to keyring_owner;
grant execute on function keyring.schema_version() to keyring_service;

CREATE OR REPLACE FUNCTION keyring.seen_exposed_secrets(of_key uuid)
 RETURNS TABLE(label text, row_id text, name text, written_at timestamp with time zone, replaced_at timestamp with time zone)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
  begin
    if current_user = 'keyring_user' then
      return query select * from keyring.exposed_secrets_in_sight(of_key);
    else
      return query select * from keyring.exposed_secrets(of_key);
    end if;
  end
  $function$;
alter function keyring.seen_exposed_secrets(uuid) owner to keyring_owner;
comment on function keyring.seen_exposed_secrets(uuid) is 'exposed_secrets, for keyring_user of a version that it sees';
grant execute on function keyring.seen_exposed_secrets(uuid) to keyring_service;
grant execute on function keyring.seen_exposed_secrets(uuid) to keyring_user;

CREATE OR REPLACE FUNCTION keyring.seen_reference_counts(of_projects uuid[])
 RETURNS TABLE(project_id uuid, encryption_key_id uuid, label text, row_count bigint)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
  begin
    if current_user = 'keyring_user' then
      return query select * from keyring.reference_counts_in_sight(of_projects);
    else
      return query select * from keyring.reference_counts_of(of_projects);
    end if;
  end
  $function$;
alter function keyring.seen_reference_counts(uuid[]) owner to keyring_owner;
comment on function keyring.seen_reference_counts(uuid[]) is 'reference_counts_of, for keyring_user of those projects that it sees';
grant execute on function keyring.seen_reference_counts(uuid[]) to keyring_service;
grant execute on function keyring.seen_reference_counts(uuid[]) to keyring_user;

CREATE OR REPLACE FUNCTION keyring.sees_project(of_project uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER COST 10000
 SET search_path TO ''
AS $function$
  declare
    the_principal pg_catalog.text := pg_catalog.current_setting('keyring.principal', true);
    note pg_catalog.text := the_principal || ' ' || of_project;
    found_it pg_catalog.bool;
  begin
    if note = pg_catalog.current_setting('keyring.project_in_sight', true) then
      return true;
    end if;
    if pg_catalog.starts_with(the_principal, 'token:') then
      -- As there: one that is somebody's does no more than they may by now, one that is nobody's, what was said when it was made.
      found_it := exists (
        select from keyring.api_tokens t
        where t.id = pg_catalog.substr(the_principal, 7)::pg_catalog.uuid
          and t.revoked_at is null and t.expires_at > pg_catalog.clock_timestamp()
          and (t.project_ids is null or of_project = any (t.project_ids))
          and (t.project_ids is not null and (t.person !~ '^(user|person):'
              or exists (select from keyring.grants g where g.person = t.person and g.project_id is null))
            or exists (select from keyring.grants g where g.person = t.person and g.project_id = of_project)
            or exists (select from public.projects p where p.id = of_project and 'user:' || p.owner = t.person)));
    else
      found_it := exists (select from keyring.grants g where g.person = the_principal and g.project_id = of_project)
        or exists (select from public.projects p where p.id = of_project and 'user:' || p.owner = the_principal);
    end if;
    if found_it then
      note := pg_catalog.set_config('keyring.project_in_sight', note, true);
    end if;
    return coalesce(found_it, false);
  end
  $function$;
alter function keyring.sees_project(uuid) owner to keyring_owner;
comment on function keyring.sees_project(uuid) is 'Whether the principal that this transaction reads for holds a project: for who looks at rows of one';
grant execute on function keyring.sees_project(uuid) to keyring_reader;

CREATE OR REPLACE FUNCTION keyring.two_person_rule()
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
    select s.two_people and (select count(distinct g.person) >= 2 from keyring.grants g where g.role = 'instance_admin')
    from keyring.access_settings s
  $function$;
alter function keyring.two_person_rule() owner to keyring_owner;
comment on function keyring.two_person_rule() is 'Is it in force?';
grant execute on function keyring.two_person_rule() to keyring_service;

CREATE OR REPLACE FUNCTION keyring.unregister_encrypted_column(column_label text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
  declare
    remaining bigint;
    move pg_catalog.regprocedure;
  begin
    select coalesce(sum(r.row_count), 0) into remaining
      from keyring.reference_counts() r where r.label = column_label and r.encryption_key_id is not null;
    if remaining > 0 then
      raise exception '% rows of % name keys', remaining, column_label using errcode = 'MK006',
        hint = 'Delete or empty them first; ciphertext without a registry entry would be forgotten by rotations.';
    end if;
    delete from keyring.encrypted_columns where label = column_label;
    if not found then
      raise exception 'no encrypted column is registered as %', column_label using errcode = 'MK005';
    end if;
    for move in
      select p.oid from pg_catalog.pg_proc p
      where p.pronamespace = 'keyring'::pg_catalog.regnamespace
        and p.proname = 'move_' || pg_catalog.replace(column_label, '.', '__')
    loop
      execute pg_catalog.format('drop function %s', move);
    end loop;
  end
  $function$;
alter function keyring.unregister_encrypted_column(text) owner to keyring_owner;
comment on function keyring.unregister_encrypted_column(text) is 'Takes an empty or dropped column out of the registry; its triggers go with its table';

CREATE OR REPLACE FUNCTION keyring.wrapping_lock()
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$ select 5577006791947779411::pg_catalog.int8 $function$;
alter function keyring.wrapping_lock() owner to keyring_owner;
comment on function keyring.wrapping_lock() is 'The queue in front of the pointer to the wrapping key: who makes keys shares it';
grant execute on function keyring.wrapping_lock() to keyring_service;

CREATE OR REPLACE FUNCTION keyring_jobs.create_queue(queue_name text, options jsonb)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
    DECLARE
      tablename varchar := CASE WHEN options->>'partition' = 'true'
                            THEN 'j' || encode(sha224(queue_name::bytea), 'hex')
                            ELSE 'job_common'
                            END;
      queue_created_on timestamptz;
    BEGIN

      WITH q as (
        INSERT INTO keyring_jobs.queue (
          name,
          policy,
          retry_limit,
          retry_delay,
          retry_backoff,
          retry_delay_max,
          expire_seconds,
          retention_seconds,
          deletion_seconds,
          warning_queued,
          dead_letter,
          partition,
          table_name,
          heartbeat_seconds,
          notify,
          created_on,
          updated_on
        )
        VALUES (
          queue_name,
          options->>'policy',
          COALESCE((options->>'retryLimit')::int, 2),
          COALESCE((options->>'retryDelay')::int, 0),
          COALESCE((options->>'retryBackoff')::bool, false),
          (options->>'retryDelayMax')::int,
          COALESCE((options->>'expireInSeconds')::int, 900),
          COALESCE((options->>'retentionSeconds')::int, 1209600),
          COALESCE((options->>'deleteAfterSeconds')::int, 604800),
          COALESCE((options->>'warningQueueSize')::int, 0),
          options->>'deadLetter',
          COALESCE((options->>'partition')::bool, false),
          tablename,
          (options->>'heartbeatSeconds')::int,
          COALESCE((options->>'notify')::bool, false),
          keyring_jobs.job_now(),
          keyring_jobs.job_now()
        )
        ON CONFLICT DO NOTHING
        RETURNING created_on
      )
      SELECT created_on into queue_created_on from q;

      IF queue_created_on IS NULL OR options->>'partition' IS DISTINCT FROM 'true' THEN
        RETURN;
      END IF;

      EXECUTE format('CREATE TABLE keyring_jobs.%I (LIKE keyring_jobs.job INCLUDING DEFAULTS)', tablename);

      EXECUTE keyring_jobs.job_table_format($cmd$ALTER TABLE keyring_jobs.job ADD PRIMARY KEY (name, id)$cmd$, tablename);
      EXECUTE keyring_jobs.job_table_format($cmd$ALTER TABLE keyring_jobs.job ADD CONSTRAINT q_fkey FOREIGN KEY (name) REFERENCES keyring_jobs.queue (name) ON DELETE RESTRICT DEFERRABLE INITIALLY DEFERRED$cmd$, tablename);
      EXECUTE keyring_jobs.job_table_format($cmd$ALTER TABLE keyring_jobs.job ADD CONSTRAINT dlq_fkey FOREIGN KEY (dead_letter) REFERENCES keyring_jobs.queue (name) ON DELETE RESTRICT DEFERRABLE INITIALLY DEFERRED$cmd$, tablename);

      EXECUTE keyring_jobs.job_table_format($cmd$CREATE INDEX job_i11 ON keyring_jobs.job (name, priority DESC, created_on, start_after) WHERE state < 'active' AND NOT blocked$cmd$, tablename);
      EXECUTE keyring_jobs.job_table_format($cmd$CREATE UNIQUE INDEX job_i4 ON keyring_jobs.job (name, singleton_on, COALESCE(singleton_key, '')) WHERE state <> 'cancelled' AND singleton_on IS NOT NULL$cmd$, tablename);
      EXECUTE keyring_jobs.job_table_format($cmd$CREATE INDEX job_i7 ON keyring_jobs.job (name, group_id) WHERE state = 'active' AND group_id IS NOT NULL$cmd$, tablename);
      EXECUTE keyring_jobs.job_table_format($cmd$CREATE INDEX job_i9 ON keyring_jobs.job (name, id) WHERE blocking AND state = 'completed'$cmd$, tablename);
      EXECUTE keyring_jobs.job_table_format($cmd$CREATE INDEX job_i12 ON keyring_jobs.job (source_root_id) WHERE source_root_id IS NOT NULL$cmd$, tablename);
      EXECUTE keyring_jobs.job_table_format($cmd$CREATE UNIQUE INDEX job_i13 ON keyring_jobs.job (name, singleton_key) WHERE state = 'created' AND upsert_by_key$cmd$, tablename);
      EXECUTE keyring_jobs.job_table_format($cmd$CREATE INDEX job_i14 ON keyring_jobs.job (name, state, blocked, start_after) WHERE state IN ('created', 'retry', 'active', 'failed')$cmd$, tablename);
      EXECUTE keyring_jobs.job_table_format($cmd$CREATE INDEX job_i15 ON keyring_jobs.job (name, created_on)$cmd$, tablename);
      EXECUTE keyring_jobs.job_table_format($cmd$CREATE INDEX job_i16 ON keyring_jobs.job (name, completed_on) WHERE completed_on IS NOT NULL$cmd$, tablename);
      EXECUTE keyring_jobs.job_table_format($cmd$CREATE INDEX job_i17 ON keyring_jobs.job (name, singleton_key, created_on) WHERE state < 'active' AND singleton_key IS NOT NULL$cmd$, tablename);

      IF options->>'policy' = 'short' THEN
        EXECUTE keyring_jobs.job_table_format($cmd$CREATE UNIQUE INDEX job_i1 ON keyring_jobs.job (name, COALESCE(singleton_key, '')) WHERE state = 'created' AND policy = 'short'$cmd$, tablename);
      ELSIF options->>'policy' = 'singleton' THEN
        EXECUTE keyring_jobs.job_table_format($cmd$CREATE UNIQUE INDEX job_i2 ON keyring_jobs.job (name, COALESCE(singleton_key, '')) WHERE state = 'active' AND policy = 'singleton'$cmd$, tablename);
      ELSIF options->>'policy' = 'stately' THEN
        EXECUTE keyring_jobs.job_table_format($cmd$CREATE UNIQUE INDEX job_i3 ON keyring_jobs.job (name, state, COALESCE(singleton_key, '')) WHERE state <= 'active' AND policy = 'stately'$cmd$, tablename);
      ELSIF options->>'policy' = 'exclusive' THEN
        EXECUTE keyring_jobs.job_table_format($cmd$CREATE UNIQUE INDEX job_i6 ON keyring_jobs.job (name, COALESCE(singleton_key, '')) WHERE state <= 'active' AND policy = 'exclusive'$cmd$, tablename);
      ELSIF options->>'policy' = 'key_strict_fifo' THEN
        EXECUTE keyring_jobs.job_table_format($cmd$CREATE UNIQUE INDEX job_i8 ON keyring_jobs.job (name, singleton_key) WHERE state IN ('active', 'retry', 'failed') AND policy = 'key_strict_fifo'$cmd$, tablename);
        EXECUTE keyring_jobs.job_table_format($cmd$CREATE INDEX job_i10 ON keyring_jobs.job (name, singleton_key, state DESC, created_on, id) INCLUDE (start_after) WHERE state < 'active' AND NOT blocked AND policy = 'key_strict_fifo'$cmd$, tablename);
        EXECUTE keyring_jobs.job_table_format($cmd$ALTER TABLE keyring_jobs.job ADD CONSTRAINT job_key_strict_fifo_singleton_key_check CHECK (NOT (policy = 'key_strict_fifo' AND singleton_key IS NULL))$cmd$, tablename);
      END IF;

      EXECUTE format('ALTER TABLE keyring_jobs.%I ADD CONSTRAINT cjc CHECK (name=%L)', tablename, queue_name);
      EXECUTE format('ALTER TABLE keyring_jobs.job ATTACH PARTITION keyring_jobs.%I FOR VALUES IN (%L)', tablename, queue_name);
    END;
    $function$;
alter function keyring_jobs.create_queue(text,jsonb) owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring_jobs.delete_queue(queue_name text)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
    DECLARE
      v_table varchar;
      v_partition bool;
    BEGIN

      SELECT table_name, partition
      FROM keyring_jobs.queue
      WHERE name = queue_name
      INTO v_table, v_partition;

      IF v_partition THEN
        EXECUTE format('DROP TABLE IF EXISTS keyring_jobs.%I', v_table);
      ELSE
        EXECUTE format('DELETE FROM keyring_jobs.%I WHERE name = %L', v_table, queue_name);
      END IF;

      DELETE FROM keyring_jobs.queue WHERE name = queue_name;
    END;
    $function$;
alter function keyring_jobs.delete_queue(text) owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring_jobs.job_now()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
AS $function$
      SELECT pg_catalog.now();
    $function$;
alter function keyring_jobs.job_now() owner to keyring_owner;
grant execute on function keyring_jobs.job_now() to keyring_service;

CREATE OR REPLACE FUNCTION keyring_jobs.job_table_format(command text, table_name text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
AS $function$
      SELECT format(
        regexp_replace(
          regexp_replace(command, '\.job\y', '.%1$I', 'g'),
          '\yjob_i(\d+)', '%1$s_i\1', 'g'
        ),
        table_name
      );
    $function$;
alter function keyring_jobs.job_table_format(text,text) owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring_jobs.job_table_run(command text, tbl_name text DEFAULT NULL::text, queue_name text DEFAULT NULL::text)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
    DECLARE
      tbl RECORD;
    BEGIN
      IF queue_name IS NOT NULL THEN
        SELECT table_name INTO tbl_name FROM keyring_jobs.queue WHERE name = queue_name;
      END IF;

      IF tbl_name IS NOT NULL THEN
        EXECUTE keyring_jobs.job_table_format(command, tbl_name);
        RETURN;
      END IF;

      EXECUTE keyring_jobs.job_table_format(command, 'job_common');

      FOR tbl IN SELECT table_name FROM keyring_jobs.queue WHERE partition = true
      LOOP
        EXECUTE keyring_jobs.job_table_format(command, tbl.table_name);
      END LOOP;
    END;
    $function$;
alter function keyring_jobs.job_table_run(text,text,text) owner to keyring_owner;

CREATE OR REPLACE FUNCTION keyring_jobs.job_table_run_async(command_name text, version integer, command text, tbl_name text DEFAULT NULL::text, queue_name text DEFAULT NULL::text)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
    BEGIN
      IF queue_name IS NOT NULL THEN
        SELECT table_name INTO tbl_name FROM keyring_jobs.queue WHERE name = queue_name;
      END IF;

      IF tbl_name IS NOT NULL THEN
        INSERT INTO keyring_jobs.bam (name, version, status, queue, table_name, command)
        VALUES (
          command_name,
          version,
          'pending',
          queue_name,
          tbl_name,
          keyring_jobs.job_table_format(command, tbl_name)
        );
        RETURN;
      END IF;

      INSERT INTO keyring_jobs.bam (name, version, status, queue, table_name, command)
      SELECT
        command_name,
        version,
        'pending',
        NULL,
        'job_common',
        keyring_jobs.job_table_format(command, 'job_common')
      UNION ALL
      SELECT
        command_name,
        version,
        'pending',
        queue.name,
        queue.table_name,
        keyring_jobs.job_table_format(command, queue.table_name)
      FROM keyring_jobs.queue
      WHERE partition = true;
    END;
    $function$;
alter function keyring_jobs.job_table_run_async(text,integer,text,text,text) owner to keyring_owner;

CREATE OR REPLACE FUNCTION public.update_updated_at_column()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
      begin
        new.updated_at = pg_catalog.now();
        return new;
      end
      $function$;
alter function public.update_updated_at_column() owner to schema_migrator;
grant execute on function public.update_updated_at_column() to public;
