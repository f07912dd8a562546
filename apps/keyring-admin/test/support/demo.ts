import { randomUUID } from 'node:crypto';
import type { Keyring } from '@meshhook/keyring';
import pg from 'pg';

/** An installation with a past: what the pages have to show when they are looked at. */

export interface Demo {
  /** By name. */
  readonly projects: ReadonlyMap<string, string>;
  readonly blocked: string;
  readonly completed: string;
}

export const scriptName = '<script>window.owned = 1</script><img src=x onerror="window.owned = 1">{@html "x"}';
export const longName = 'a name that is as long as names may be '.repeat(6).slice(0, 200);
export const arabicName = 'مشروع سري';

const others = [
  'analytics',
  'auth',
  'billing',
  'catalogue',
  'crm-sync',
  'deploy-hooks',
  'email',
  'exports',
  'fulfilment',
];

/** `adminUrl` is a superuser's: time is turned back, and one row's bytes are changed. */
export async function fillDemo(keyring: Keyring, adminUrl: string): Promise<Demo> {
  const projects = new Map<string, string>();
  const fill = async (name: string, secrets: readonly string[]): Promise<string> => {
    const { id } = await keyring.projects.create({ name });
    projects.set(name, id);
    for (const secret of secrets) await keyring.secrets.put(id, secret, `demo value of ${secret}`);
    return id;
  };
  const rotate = async (ids: readonly string[], reason: string): Promise<string> => {
    const { id } = await keyring.rotations.request({ projects: ids, reason, trigger: 'manual' });
    await keyring.rotations.run(id);
    return id;
  };

  const acme = await fill('acme', ['STRIPE_KEY', 'STRIPE_WEBHOOK_SECRET', 'SENDGRID_TOKEN', 'DATABASE_PASSWORD']);
  const checkout = await fill('checkout', ['PAYPAL_SECRET', 'ADYEN_HMAC']);
  const legacy = await fill('legacy-import', ['FTP_PASSWORD', 'SOAP_CERTIFICATE', 'OLD_PARTNER_TOKEN']);
  const mobile = await fill('mobile-push', ['APNS_KEY', 'FCM_TOKEN']);
  for (const name of [...others, arabicName, longName, scriptName]) await fill(name, ['API_TOKEN', 'WEBHOOK_SECRET']);
  await keyring.projects.create({ name: 'nothing in it yet' });

  await using admin = Object.assign(new pg.Client({ connectionString: adminUrl }), {
    [Symbol.asyncDispose]: async () => admin.end(),
  });
  await admin.connect();
  await admin.query('set session_replication_role = replica');
  /** Everything that is known of its keys happened so many days earlier. */
  const age = async (project: string, days: number): Promise<void> => {
    await admin.query(
      `update keyring.encryption_keys
          set created_at = created_at - make_interval(days => $2), activated_at = activated_at - make_interval(days => $2),
              deactivated_at = deactivated_at - make_interval(days => $2),
              retention_until = retention_until - make_interval(days => $2),
              destroyed_at = destroyed_at - make_interval(days => $2)
        where project_id = $1`,
      [project, days],
    );
    await admin.query(
      `update keyring.keyrings set primary_made_at = primary_made_at - make_interval(days => $2) where project_id = $1`,
      [project, days],
    );
  };

  await age(acme, 110);
  await rotate([acme], 'quarterly');
  const [, first] = (await keyring.keys.list({ projectId: acme })).toSorted((a, b) => b.version - a.version);
  await age(acme, 75);
  if (first !== undefined)
    await keyring.keys.destroy(first.id, { reason: 'its retention is over' }).catch(() => undefined);
  const completed = await rotate([acme, ...others.slice(0, 3).map((name) => projects.get(name) ?? '')], 'quarterly');
  await age(acme, 12);

  await age(checkout, 97);
  for (const [index, name] of others.entries()) await age(projects.get(name) ?? '', 20 + index * 8);

  await age(mobile, 30);
  const [leaked] = await keyring.keys.list({ projectId: mobile });
  if (leaked !== undefined) {
    const { rotation } = await keyring.rotations.compromise(leaked.id, { reason: 'found in a public repository' });
    if (rotation !== undefined) await keyring.rotations.run(rotation.id);
  }

  await admin.query(
    `update public.secrets set value_encrypted = set_byte(value_encrypted, length(value_encrypted) - 1,
       get_byte(value_encrypted, length(value_encrypted) - 1) # 1) where project_id = $1 and key = 'OLD_PARTNER_TOKEN'`,
    [legacy],
  );
  const blocked = await rotate([legacy], 'quarterly');
  await fillSettings(keyring, acme);
  return { projects, blocked, completed };
}

/** Tokens, roles, an endpoint, and what waits for a second person. */
async function fillSettings(keyring: Keyring, project: string): Promise<void> {
  const { access } = keyring;
  await access.tokens.create({ name: 'deploy', role: 'service', projects: [project] });
  await access.tokens.create({ name: longName, role: 'auditor', projects: 'all' });
  const { entry } = await access.tokens.create({ name: 'old backup job', role: 'auditor', projects: 'all' });
  await access.tokens.revoke(entry.id);
  for (const person of ['person:ada', 'person:bob']) await access.grants.add({ person, role: 'instance_admin' });
  await access.grants.add({ person: 'person:eve', role: 'project_admin', projectId: project, reason: 'on call' });
  await keyring.notifications.set({ url: 'https://hooks.example.com/keyring' });
  const ada = keyring.as({ name: 'session:ada', kind: 'session', person: 'person:ada' });
  await ada.access.setRule(false, { reason: 'one of us is away' }).catch(() => undefined);
}

/** That many projects of one secret each, as fast as rows can be written; values are not readable. */
export async function fillMany(adminUrl: string, keyring: Keyring, count: number): Promise<void> {
  const { id } = await keyring.projects.create({ name: `template ${randomUUID()}` });
  await keyring.secrets.put(id, 'API_TOKEN', 'template');
  const admin = new pg.Client({ connectionString: adminUrl });
  await admin.connect();
  try {
    await admin.query('set session_replication_role = replica');
    await admin.query(
      `with made as (
         insert into public.projects (id, owner, name)
         select gen_random_uuid(), owner, 'tenant ' || lpad(n::text, 6, '0')
           from public.projects, generate_series(1, $2::int) n where id = $1
         returning id
       ), keyed as (
         insert into keyring.encryption_keys
                (id, project_id, version, wrapped_key, wrapping_key_id, fingerprint, created_at, activated_at)
         select gen_random_uuid(), made.id, 1, key.wrapped_key, key.wrapping_key_id, key.fingerprint,
                now() - random() * interval '80 days', now() - interval '1 hour'
           from made, keyring.encryption_keys key where key.project_id = $1
         returning id, project_id
       )
       insert into keyring.keyrings (project_id, primary_key_id) select project_id, id from keyed`,
      [id, count],
    );
  } finally {
    await admin.end();
  }
}
