import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Bench, Measure } from './support.ts';
import { percentile } from './table.ts';

const ROUNDS = 20;
const app = path.join(import.meta.dirname, '../apps/keyring-admin');

/** The page as it is served: how much script its first page takes, and how fast Overview answers for a fleet. */
export async function appMeasures(bench: Bench): Promise<Measure[]> {
  if (!existsSync(path.join(app, 'build/handler.js'))) throw new Error('The app is not built: run `npm run build`.');
  const projects = bench.quick ? 2_000 : 100_000;
  const database = await bench.database({ projects, secretsEach: 1 });
  await database.admin(async (client) => {
    // The fill goes past the triggers that keep this; spread, so that some are due and most are not.
    await client.query(`set session_replication_role = replica`);
    await client.query(`update keyring.keyrings set primary_made_at = now() - random() * interval '100 days'`);
    await client.query('vacuum analyze keyring.keyrings');
  });
  const home = await mkdtemp(path.join(tmpdir(), 'keyring-bench-app-'));
  const { PATH = '', HOME = '' } = process.env;
  const server = spawn(process.execPath, [path.join(app, 'serve.js')], {
    env: {
      ...{ PATH, HOME, PORT: '0', MESHHOOK_HOME: home },
      ...{ DATABASE_URL: database.serviceUrl, MESHHOOK_ROOT_KEY: database.rootKey },
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const url = await listening(server.stdout);
    const authorization = `Bearer ${(await readFile(path.join(home, 'api-token'), 'utf8')).trim()}`;
    const get = async (address: string): Promise<string> => {
      const answer = await fetch(new URL(address, url), { headers: { authorization } });
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${address} answered ${String(answer.status)}: ${text.slice(0, 200)}`);
      return text;
    };
    const script = await firstScript(get);
    const page = await sample(() => get('/'));
    const api = await sample(() => get('/api/overview'));
    const ms = (value: number): string => `${value.toFixed(1)} ms`;
    return [
      {
        what: 'script of the first page, compressed',
        measured: `${(script.bytes / 1_000).toFixed(1)} kB`,
        against: `${String(script.files)} files`,
        target: '≤ 150 kB',
        numbers: { bytes: script.bytes, files: script.files },
      },
      {
        what: `Overview of ${projects.toLocaleString('en')} projects, the server's answer, median`,
        measured: ms(page.median),
        against: `${ms(page.least)} to ${ms(page.most)}; its API alone ${ms(api.median)}`,
        target: '≤ 100 ms',
        numbers: { medianMs: page.median, apiMedianMs: api.median, projects },
      },
    ];
  } finally {
    const ended = once(server, 'close');
    server.kill('SIGTERM');
    await ended;
    await rm(home, { recursive: true, force: true });
    await database.drop();
  }
}

function listening(stdout: NodeJS.ReadableStream): Promise<string> {
  return new Promise((resolve, reject) => {
    let printed = '';
    // It listens to the end: a full pipe would stop the server.
    stdout.on('data', (part: Buffer) => {
      printed += String(part);
      const port = /"event":"listening","port":(\d+)/.exec(printed)?.[1];
      const found = port === undefined ? /^page +(http:\S+)$/m.exec(printed)?.[1] : `http://127.0.0.1:${port}`;
      if (found !== undefined) resolve(found);
    });
    stdout.on('close', () => {
      reject(new Error(`The server ended:\n${printed}`));
    });
  });
}

/** All that the page imports, and what that imports in turn, each as a browser is sent it at the most: gzip, as the build does. */
async function firstScript(get: (address: string) => Promise<string>): Promise<{ bytes: number; files: number }> {
  const html = await get('/');
  const left = [...html.matchAll(/["'(](\.{0,2}\/[^"'()\s]*\.js)["')]/g)].map(([, found = '']) => within('/', found));
  const seen = new Map<string, number>();
  for (let address = left.pop(); address !== undefined; address = left.pop()) {
    if (seen.has(address)) continue;
    const source = await get(address);
    seen.set(address, gzipSync(source, { level: 9 }).length);
    for (const [, found = ''] of source.matchAll(/(?:from|import)\s*["'](\.{1,2}\/[^"']+\.js)["']/g)) {
      left.push(within(address, found));
    }
  }
  if (seen.size === 0) throw new Error('The page names no script.');
  return { bytes: [...seen.values()].reduce((sum, bytes) => sum + bytes, 0), files: seen.size };
}

const within = (from: string, to: string): string => new URL(to, new URL(from, 'http://app')).pathname;

async function sample(ask: () => Promise<unknown>): Promise<{ median: number; least: number; most: number }> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const before = performance.now();
    await ask();
    times.push(performance.now() - before);
  }
  return { median: percentile(times, 0.5), least: Math.min(...times), most: Math.max(...times) };
}
