import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { permissions, permissionsOf, roles, type Permission, type Role } from '@meshhook/keyring';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createApp } from '../src/handler.ts';
import { resolveOptions } from '../src/options.ts';
import { openApi, type Api } from './support/api.ts';
import { userJwt } from './support/user-jwt.ts';

const text = readFileSync(path.join(import.meta.dirname, '../../../docs/access.md'), 'utf8');
const cells = (line: string): string[] =>
  line
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim().replaceAll('`', ''));
const tableUnder = (head: string): string[][] => {
  const lines = text.slice(text.indexOf(head)).split('\n');
  return lines.slice(2, lines.indexOf('')).map(cells);
};

interface Row {
  readonly route: string;
  readonly permission: Permission;
  readonly where: 'open' | 'known' | 'instance' | 'project';
}
const rows = tableUnder('| route | wants |').map(
  ([route = '', permission, where]) => ({ route, permission, where }) as Row,
);
const roleTable = tableUnder('| permission | instance_admin').map(([permission = '', ...may]) => ({ permission, may }));

const jwt = {
  issuer: 'https://example.supabase.co/auth/v1',
  secret: 'a secret that is for tests only, of 32 bytes and more',
};
const owner = randomUUID();

/** What a request can be about: one's own, somebody else's, or nothing that there is. */
interface Things {
  readonly project: string;
  readonly key: string;
  readonly rotation: string;
  readonly token: string;
  readonly grant: string;
  readonly secret: string;
}

let api: Api;
let own: Things;
let foreign: Things;
const missing: Things = {
  ...{ project: randomUUID(), key: randomUUID(), rotation: randomUUID(), token: randomUUID(), grant: randomUUID() },
  secret: 'KEY',
};
let principals: {
  readonly name: string;
  readonly role: Role | undefined;
  readonly wide: boolean;
  readonly credential: string;
}[];

async function make(name: string, of: string): Promise<Things> {
  const { keyring } = api;
  const project = (await keyring.projects.create({ name, owner: of })).id;
  await keyring.secrets.put(project, 'KEY', 'sk_live_never_shown');
  const { id: rotation } = await keyring.rotations.request({ projects: [project] });
  await keyring.rotations.run(rotation);
  const [, key] = await keyring.keys.list({ projectId: project });
  const { entry } = await keyring.access.tokens.create({ name, role: 'auditor', projects: [project] });
  const grant = await keyring.access.grants.add({ person: 'person:x', role: 'auditor', projectId: project });
  return { project, key: key!.id, rotation, token: entry.id, grant: grant.id, secret: 'KEY' };
}

beforeAll(async () => {
  api = await openApi({ jwt });
  own = await make('own', owner);
  foreign = await make('foreign', randomUUID());
  principals = [];
  for (const role of ['instance_admin', 'project_admin', 'auditor', 'service'] as const) {
    for (const wide of role === 'instance_admin' ? [true] : [true, false]) {
      const { token } = await api.keyring.access.tokens.create({
        ...{ name: role, role },
        ...(wide ? {} : { projects: [own.project] }),
      });
      principals.push({ name: `${role} of ${wide ? 'the instance' : 'a project'}`, role, wide, credential: token });
    }
  }
  principals.push({ name: 'the owner', role: 'project_owner', wide: false, credential: userJwt(jwt, owner) });
  principals.push({
    name: 'a user without anything',
    role: undefined,
    wide: false,
    credential: userJwt(jwt, randomUUID()),
  });
});
afterAll(() => api[Symbol.asyncDispose]());

const reason = { reason: 'a test' };
const bodies: Record<string, (of: Things) => unknown> = {
  'POST /api/keys/rotate': ({ project }) => ({ projects: [project] }),
  'POST /api/keys/:id/destroy': () => reason,
  'POST /api/keys/:id/suspend': () => reason,
  'POST /api/keys/:id/restore': () => reason,
  'POST /api/keys/:id/compromise': () => reason,
  'POST /api/rotations/:id/pace': () => ({ fullSpeed: true }),
  'POST /api/quarantine/retry': ({ project }) => ({ project }),
  'POST /api/quarantine/discard': ({ project }) => ({
    projectId: project,
    label: 'secrets.value',
    rowId: randomUUID(),
    ...reason,
  }),
  'POST /api/projects': () => ({ name: 'made by the walk' }),
  'PUT /api/projects/:id/secrets/:name': () => ({ value: 'x' }),
  'POST /api/projects/:id/secrets/:name/reveal': () => reason,
  'POST /api/session': () => ({ link: 'mhl_none' }),
  'POST /api/tokens': ({ project }) => ({ name: 'walk', permissions: ['keys:read'], projects: [project] }),
  'POST /api/grants': ({ project }) => ({ person: 'person:y', role: 'auditor', project }),
  'PUT /api/two-person-rule': () => ({ wanted: true, ...reason }),
};

/** The address of a route for a thing; of lists, narrowed to a project where that can be asked for. */
function addressOf(route: string, of: Things): string {
  const [, pattern = ''] = route.split(' ');
  const id = pattern.startsWith('/api/keys/')
    ? of.key
    : pattern.startsWith('/api/rotations/')
      ? of.rotation
      : pattern.startsWith('/api/tokens/')
        ? of.token
        : pattern.startsWith('/api/grants/')
          ? of.grant
          : pattern.startsWith('/api/projects/')
            ? of.project
            : randomUUID();
  const query = ['/api/keys', '/api/rotations', '/api/quarantine'].includes(pattern) ? `?project=${of.project}` : '';
  return (
    pattern
      .replace(':projectId', of.project)
      .replace(':project', of.project)
      .replace(':id', id)
      .replace(':name', of.secret) + query
  );
}

async function ask(row: Row, of: Things, credential: string | undefined) {
  const [method = ''] = row.route.split(' ');
  const body = bodies[row.route]?.(of) ?? (method === 'GET' ? undefined : {});
  const before = api.questions();
  const response = await api.fetch(
    new Request(`http://x${addressOf(row.route, of)}`, {
      method,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(credential === undefined ? {} : { authorization: `Bearer ${credential}` }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }),
    { address: randomUUID() },
  );
  const questions = api.questions() - before;
  const headers = JSON.stringify([...response.headers]);
  if (response.headers.get('content-type')?.startsWith('text/event-stream') === true) {
    await response.body?.cancel();
    return { status: response.status, code: undefined, text: '', headers, questions };
  }
  const answered = await response.text();
  const code = /"code":"(\w+)"/.exec(answered)?.[1];
  return { status: response.status, code: response.ok ? undefined : code, text: answered, headers, questions };
}

it('the table of roles is the one that is enforced', () => {
  expect(roleTable.map(({ permission }) => permission)).toEqual([...permissions]);
  for (const { permission, may } of roleTable) {
    for (const [index, role] of roles.entries()) {
      expect([permission, role, may[index] === 'yes']).toEqual([
        permission,
        role,
        permissionsOf[role].includes(permission as Permission),
      ]);
    }
  }
});

it('every route is in the table, and nothing else is', () => {
  const app = createApp(resolveOptions({ keyring: api.keyring, tokens: [] }));
  const served = new Set(app.routes.filter(({ method }) => method !== 'ALL').map((one) => `${one.method} ${one.path}`));
  expect(rows.map(({ route }) => route).sort()).toEqual([...served].sort());
});

it('every route, as every role, on one’s own project, on a foreign one and on none, does what the table says', async () => {
  const wrong: string[] = [];
  let asked = 0;
  for (const row of rows) {
    const nobody = await ask(row, own, undefined);
    if ((nobody.status === 401) !== (row.where !== 'open') && row.route !== 'POST /api/session') {
      wrong.push(`${row.route} without a credential: ${String(nobody.status)}`);
    }
    for (const { name, role, wide, credential } of principals) {
      const holds = role !== undefined && permissionsOf[role].includes(row.permission);
      for (const [whose, of] of [
        ['own', own],
        ['foreign', foreign],
      ] as const) {
        const answered = await ask(row, of, credential);
        asked += 1;
        const said = `${row.route} by ${name}, ${whose}: ${String(answered.status)} ${answered.code ?? ''}`;
        const denied = answered.status === 401 || answered.status === 403;
        if (answered.status >= 500) wrong.push(said);
        if (row.where === 'open' || row.where === 'known') {
          if (denied && row.route !== 'POST /api/session') wrong.push(said);
        } else if (row.where === 'instance') {
          if (denied !== !(holds && wide)) wrong.push(said);
        } else if (role !== undefined && (whose === 'own' || wide)) {
          if (denied !== !holds) wrong.push(said);
        } else {
          // Where it may do nothing: exactly what is said of what does not exist.
          // In status, words, headers, and how often the database was asked.
          const none = await ask(row, missing, credential);
          const same = (one: { text: string }, things: Things) => {
            let told = one.text;
            for (const id of Object.values(things)) told = told.replaceAll(String(id), '…');
            return told.replaceAll(/"(at|now|checkedAt)":"[^"]*"/g, '');
          };
          if (answered.headers !== none.headers)
            wrong.push(`${said}; ${answered.headers}, of a missing one ${none.headers}`);
          if (answered.questions !== none.questions) {
            const asks = [answered.questions, none.questions].map(String);
            wrong.push(`${said}; asks the database ${asks.join(' times, of a missing one ')}`);
          }
          if (answered.status !== none.status || same(answered, of) !== same(none, missing)) {
            wrong.push(
              `${said}; of a missing one ${String(none.status)}: ${same(answered, of).slice(0, 200)} / ${same(none, missing).slice(0, 200)}`,
            );
          }
          for (const id of Object.values(of)) {
            if (id !== 'KEY' && answered.status < 400 && answered.text.includes(id as string))
              wrong.push(`${said}: tells ${String(id)}`);
          }
        }
      }
    }
  }
  expect(api.questions()).toBeGreaterThan(asked);
  console.log(`${String(rows.length)} routes, ${String(asked)} requests`);
  expect(wrong).toEqual([]);
});
