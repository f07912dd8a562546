import type pg from 'pg';

/** What a superuser does to the trail, with triggers off. */
export interface Edit {
  readonly what: string;
  /** What verify may call it: several edits leave the same rows behind. */
  readonly kinds: readonly string[];
  /** Where verify has to point: a place, or the id of an entry. */
  readonly place?: number;
  readonly entryId?: string;
  readonly statements: readonly { readonly text: string; readonly values: readonly unknown[] }[];
}

/** A small generator of numbers, so that a seed gives the same edits again (mulberry32). */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const changes = [
  `actor = actor || '.'`,
  `actor = upper(actor) || 'x'`,
  `action = 'test.changed'`,
  `outcome = case outcome when 'refused' then 'succeeded' else 'refused' end`,
  `subject = subject || '0'`,
  `reason = coalesce(reason, '') || ' or not'`,
  `reason = case when reason is null then '' end`,
  `details = details || '{"extra": true}'`,
  `details = jsonb_build_object('number', 1.0)`,
  // Equal for jsonb, and for whoever reads numbers: another text.
  `details = details || '{"one": 1.0}'`,
  `details = details || '{"one": "1"}'`,
  `details = details - 'nothing'`,
  `details = case when details ? 'one' then jsonb_set(details, '{nested,list,2}', 'false') end`,
  `at = at + interval '1 microsecond'`,
  `at = at + interval '1 hour'`,
  `at = 'infinity'`,
  `principal_kind = case when principal_kind = 'user' then 'system' else 'user' end`,
  `principal_kind = case when principal_kind is null then 'user' end`,
  `source_address = coalesce(source_address, '') || '1'`,
  `source_address = case when source_address is null then '::1' end`,
  `project_id = gen_random_uuid()`,
  `project_id = case when project_id is null then gen_random_uuid() end`,
  // The same to the eye.
  `subject = normalize(subject, nfd)`,
  `actor = replace(actor, 'a', 'а')`,
  `subject = subject || E'\\u200b'`,
] as const;

const checkpointChanges = [
  `size = size + 1`,
  `floor_id = floor_id + 1`,
  `note = replace(note, 'floor ', 'floor 1')`,
  `note = regexp_replace(note, '\\.\\d{3}Z', '.000Z') || ' '`,
  `note = 'gone'`,
] as const;

export interface Sealed {
  /** Entries in the order of their places. */
  readonly ids: readonly string[];
  /** Ids that were handed out and never used, below the floor. */
  readonly gaps: readonly string[];
}

/** An edit of a random sort at a random place. */
export function randomEdit({ ids, gaps }: Sealed, random: (below: number) => number): Edit {
  const size = ids.length;
  const place = 1 + random(size);
  const id = ids[place - 1] ?? '';
  const other = 1 + ((place - 1 + 1 + random(size - 1)) % size);
  const first = Math.min(place, other);
  const one = (text: string, ...values: unknown[]): Edit['statements'][number] => ({ text, values });
  switch (random(14)) {
    case 0:
    case 1:
    case 2: {
      const change = changes[random(changes.length)] ?? changes[0];
      const at = { what: `change: ${change}`, kinds: ['altered'], place, entryId: id };
      return { ...at, statements: [one(`update keyring.audit_log set ${change} where id = $1`, id)] };
    }
    case 3:
      return {
        ...{ what: 'delete an entry', kinds: place === size ? ['truncated'] : ['removed'], place, entryId: id },
        statements: [one('delete from keyring.audit_log where id = $1', id)],
      };
    case 4:
      return {
        ...{ what: 'delete an entry and its seal', kinds: place === size ? ['truncated'] : ['removed'], place },
        statements: [
          one('delete from keyring.audit_log where id = $1', id),
          one('delete from keyring.audit_seals where place = $1', place),
        ],
      };
    case 5: {
      const gap = gaps[random(gaps.length)] ?? '';
      return {
        ...{ what: 'insert below the floor', kinds: ['inserted'], entryId: gap },
        statements: [
          one(
            `insert into keyring.audit_log (id, at, actor, action, outcome, subject) overriding system value
             select $1, at, actor, action, outcome, subject from keyring.audit_log where id = $2`,
            ...[gap, id],
          ),
        ],
      };
    }
    case 6: {
      return {
        ...{ what: 'swap what two entries say', kinds: ['reordered'], place: first, entryId: ids[first - 1] ?? '' },
        statements: [
          one(
            `update keyring.audit_log l set at = o.at, actor = o.actor, principal_kind = o.principal_kind, source_address = o.source_address, action = o.action,
               outcome = o.outcome, project_id = o.project_id, subject = o.subject, reason = o.reason, details = o.details
             from keyring.audit_log o where l.id in ($1, $2) and o.id in ($1, $2) and o.id <> l.id`,
            ...[id, ids[other - 1]],
          ),
        ],
      };
    }
    case 7:
      return {
        ...{ what: 'swap the places of two entries', kinds: ['reordered'], place: first },
        statements: [
          one('update keyring.audit_seals set entry_id = -entry_id where place in ($1, $2)', place, other),
          one('update keyring.audit_seals set entry_id = $2 where place = $1', place, ids[other - 1]),
          one('update keyring.audit_seals set entry_id = $2 where place = $1', other, id),
        ],
      };
    case 8:
      return {
        ...{ what: 'truncate behind a place', kinds: ['truncated'], place },
        statements: [
          one(
            `delete from keyring.audit_log l using keyring.audit_seals s where s.entry_id = l.id and s.place >= $1`,
            place,
          ),
          one('delete from keyring.audit_seals where place >= $1', place),
          one('delete from keyring.audit_checkpoints where size >= $1', place),
        ],
      };
    case 9:
      return {
        ...{ what: 'truncate everything', kinds: ['truncated'], place: 1 },
        statements: [
          one('truncate keyring.audit_log'),
          ...(random(2) === 0 ? [] : [one('truncate keyring.audit_seals'), one('truncate keyring.audit_checkpoints')]),
        ],
      };
    case 10:
      return {
        ...{ what: 'change a seal', kinds: ['altered'], place, entryId: id },
        statements: [
          one(`update keyring.audit_seals set hash = set_byte(hash, 7, get_byte(hash, 7) # 1) where place = $1`, place),
        ],
      };
    case 11: {
      const change = checkpointChanges[random(checkpointChanges.length)] ?? checkpointChanges[0];
      return {
        ...{ what: `checkpoint: ${change}`, kinds: ['checkpoint', 'inserted', 'truncated'] },
        statements: [
          one(
            `update keyring.audit_checkpoints set ${change} where id = (
               select id from keyring.audit_checkpoints order by id offset $1 % (select count(*) from keyring.audit_checkpoints) limit 1)`,
            random(1_000),
          ),
        ],
      };
    }
    case 12:
      return {
        ...{ what: 'delete the last checkpoint', kinds: ['checkpoint'], place: size },
        statements: [one('delete from keyring.audit_checkpoints where size = $1', size)],
      };
    default:
      return {
        ...{ what: 'append with a seal of its own', kinds: ['inserted', 'altered'], place: size + 1 },
        statements: [
          one(
            `insert into keyring.audit_log (actor, action, outcome, subject) values ('x', 'test.forged', 'succeeded', 'x:1')`,
          ),
          one(
            `insert into keyring.audit_seals (place, entry_id, hash)
             select max(s.place) + 1, (select max(l.id) from keyring.audit_log l), sha256('forged') from keyring.audit_seals s`,
          ),
        ],
      };
  }
}

/** False when it left everything as it was: what it would replace is not in every entry. */
export async function apply(client: pg.Client, edit: Edit): Promise<boolean> {
  const before = await everything(client);
  for (const { text, values } of edit.statements) await client.query(text, [...values]);
  return (await everything(client)) !== before;
}

async function everything(client: pg.Client): Promise<string> {
  const { rows } = await client.query<Record<string, string>>(
    `select (select string_agg(l::text, ' ' order by id) from keyring.audit_log l) as entries,
       (select string_agg(s::text, ' ' order by place) from keyring.audit_seals s) as seals,
       (select string_agg(c::text, ' ' order by id) from keyring.audit_checkpoints c) as checkpoints`,
  );
  return JSON.stringify(rows);
}
