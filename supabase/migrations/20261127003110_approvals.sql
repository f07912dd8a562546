-- Two people for what cannot be undone. An act of that kind needs a row here that somebody asked for, another admin approved, and that
-- is consumed in the transaction of the act itself. While there are fewer than two admins, or the rule is off, the row is
-- `waived`: written, consumed and told by that transaction alone.
--
-- Held here, whoever asks: who approves is an admin, is not who asked, and is in time; each approval serves once.
-- Error code: MK010 approval needed.

select pg_catalog.set_config('keyring.migrator', current_user, false);
set role keyring_owner;

create table keyring.access_settings (
  only_row boolean primary key default true check (only_row),
  two_people boolean not null default true
);
comment on column keyring.access_settings.two_people is 'Is the rule of two people wanted? It is in force while there are two admins, too';
insert into keyring.access_settings default values;

create table keyring.approvals (
  id uuid primary key default gen_random_uuid(),
  action text not null check (action in ('key.destroy_early', 'retention.shorten', 'quarantine.discard', 'admin.grant',
    'admin.remove', 'rule.switch_off')),
  subject text not null check (length(subject) between 1 and 400),
  project_id uuid,
  reason text check (length(reason) <= 1000),
  state text not null check (state in ('pending', 'approved', 'rejected', 'consumed', 'waived')),
  requested_by text not null check (length(requested_by) between 1 and 200),
  requester text not null check (length(requester) between 1 and 200),
  requested_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null default clock_timestamp() + interval '24 hours',
  decided_by text check (length(decided_by) between 1 and 200),
  decider text check (length(decider) between 1 and 200),
  decided_at timestamptz,
  consumed_at timestamptz,
  consumed_in xid8
);
comment on column keyring.approvals.requester is 'The person who asked, whichever token or session it was done with. requested_by is the actor';
comment on column keyring.approvals.consumed_in is 'The transaction that did what was approved';
create unique index one_open_approval on keyring.approvals (action, subject, requester) where state in ('pending', 'approved');
create index approvals_by_time on keyring.approvals (requested_at desc, id desc);

create function keyring.two_person_rule() returns boolean
  language sql stable set search_path = ''
  as $$
    select s.two_people and (select count(distinct g.person) >= 2 from keyring.grants g where g.role = 'instance_admin')
    from keyring.access_settings s
  $$;
comment on function keyring.two_person_rule() is 'Is it in force?';

create function keyring.guard_approval() returns trigger
  language plpgsql set search_path = ''
  as $$
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
  $$;
create trigger guard_approval before insert or update on keyring.approvals
  for each row execute function keyring.guard_approval();

-- Was this approved, or waived, in this very transaction?
create function keyring.is_approved(the_action text, the_subject text) returns boolean
  language sql volatile set search_path = ''
  as $$
    select exists (select from keyring.approvals a
      where a.action = the_action and a.subject = the_subject and a.consumed_in = pg_catalog.pg_current_xact_id_if_assigned())
  $$;

create function keyring.guard_admins() returns trigger
  language plpgsql set search_path = ''
  as $$
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
  $$;
create trigger guard_admins before insert or delete on keyring.grants
  for each row execute function keyring.guard_admins();

create function keyring.guard_access_settings() returns trigger
  language plpgsql set search_path = ''
  as $$
  begin
    if old.two_people and not new.two_people and keyring.two_person_rule()
      and not keyring.is_approved('rule.switch_off', 'rule:two_people')
    then
      raise exception 'another admin has to approve this' using errcode = 'MK010';
    end if;
    return new;
  end
  $$;
create trigger guard_access_settings before update on keyring.access_settings
  for each row execute function keyring.guard_access_settings();

-- What is approved is one project's (null: the default) retention becoming so long, and no other.
create function keyring.retention_subject(project uuid, retention interval) returns text
  language sql immutable set search_path = ''
  as $$
    select 'policy:' || coalesce(project::pg_catalog.text, 'default') || ':'
      || pg_catalog.date_part('epoch', retention)::pg_catalog.int8
  $$;

-- A policy whose retention gets shorter, by whichever statement: in a row, by a row of a project's own, or by its end.
create function keyring.guard_retention() returns trigger
  language plpgsql set search_path = ''
  as $$
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
  $$;
create trigger guard_retention before insert or update or delete on keyring.rotation_policies
  for each row execute function keyring.guard_retention();

alter table keyring.access_settings enable row level security;
alter table keyring.access_settings force row level security;
alter table keyring.approvals enable row level security;
alter table keyring.approvals force row level security;
create policy keyring_roles on keyring.access_settings to keyring_owner, keyring_service using (true) with check (true);
create policy keyring_roles on keyring.approvals to keyring_owner, keyring_service using (true) with check (true);
grant select, update (two_people) on keyring.access_settings to keyring_service;
grant select, insert (action, subject, project_id, reason, state, requested_by, requester),
  update (state, decided_by, decider, decided_at, consumed_at, consumed_in) on keyring.approvals to keyring_service;
grant execute on function keyring.two_person_rule() to keyring_service;
grant execute on function keyring.is_approved(text, text) to keyring_service;
grant execute on function keyring.retention_subject(uuid, interval) to keyring_service;

-- As before, but for a retention window: two people end it early. What a row names is still never destroyed.
create or replace function keyring.guard_encryption_key() returns trigger
  language plpgsql security definer set search_path = ''
  as $$
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
    for named in select p.code, p.relation, p.column_name from keyring.catalog_problems() p loop
      raise exception 'rows that name the version could be missed: % (% %)', named.code, named.relation, named.column_name
        using errcode = 'MK006', hint = 'Mend what keyring.catalog_problems() names.';
    end loop;
    for named in select r.label, r.row_count from keyring.reference_counts(old.project_id) r
      where r.encryption_key_id = old.id
    loop
      raise exception '% rows of % name the version', named.row_count, named.label using errcode = 'MK006';
    end loop;
    return new;
  end
  $$;

create or replace function keyring.schema_version() returns text
  language sql immutable set search_path = ''
  as $$ select '20261127003110' $$;
select pg_catalog.set_config('role', pg_catalog.current_setting('keyring.migrator'), false);
