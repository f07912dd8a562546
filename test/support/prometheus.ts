import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

const environment = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' };

/** Are Prometheus and its tool on this machine? */
export const hasPrometheus = ['prometheus', 'promtool'].every(
  (program) => spawnSync(program, ['--version'], { env: environment }).status === 0,
);

/** Runs promtool in a folder; gives its exit code and what it said. */
export function promtool(folder: string, ...args: string[]): { readonly code: number | null; readonly said: string } {
  const { status, stdout, stderr } = spawnSync('promtool', args, { cwd: folder, env: environment, encoding: 'utf8' });
  return { code: status, said: stdout + stderr };
}

export interface PrometheusOptions {
  /** What it scrapes, as `127.0.0.1:8080`. */
  readonly target: string;
  /** Sent as a bearer token, from a file. */
  readonly token: string;
  /** The text of a file of rules. */
  readonly rules: string;
}

export interface Alert {
  readonly state: 'pending' | 'firing';
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface Prometheus extends AsyncDisposable {
  /** Every alert that is pending or firing. */
  alerts(): Promise<Alert[]>;
  /** The values of an instant query. */
  query(expression: string): Promise<number[]>;
  /** Whether its one target was scraped, and what was wrong. */
  target(): Promise<{ readonly health: string; readonly lastError: string }>;
}

/** A real Prometheus with a database of its own, on the loopback, which looks every second; until it is disposed of. */
export async function startPrometheus({ target, token, rules }: PrometheusOptions): Promise<Prometheus> {
  const folder = await mkdtemp(path.join(tmpdir(), 'keyring-prometheus-'));
  const files = {
    token,
    'rules.yml': rules,
    'prometheus.yml': `global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [rules.yml]
scrape_configs:
  - job_name: keyring
    authorization: { credentials_file: token }
    static_configs: [{ targets: ['${target}'] }]
`,
  };
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text, { mode: 0o600 });
  const port = await freePort();
  const child = spawn(
    'prometheus',
    [
      '--config.file=prometheus.yml',
      '--storage.tsdb.path=data',
      `--web.listen-address=127.0.0.1:${String(port)}`,
      '--log.level=warn',
    ],
    { cwd: folder, env: environment, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const ask = async <T>(question: string): Promise<T> => {
    const response = await fetch(`http://127.0.0.1:${String(port)}/api/v1/${question}`);
    return ((await response.json()) as { data: T }).data;
  };
  const dispose = async (): Promise<void> => {
    await ended(child);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await untilReady(port, child);
  } catch (error) {
    await dispose();
    throw new Error(`Prometheus does not start:\n${said}`, { cause: error });
  }
  return {
    alerts: async () => (await ask<{ alerts: Alert[] }>('alerts')).alerts,
    query: async (expression) => {
      const { result } = await ask<{ result: { value: [number, string] }[] }>(
        `query?query=${encodeURIComponent(expression)}`,
      );
      return result.map(({ value }) => Number(value[1]));
    },
    target: async () => {
      const { activeTargets } = await ask<{ activeTargets: { health: string; lastError: string }[] }>('targets');
      return activeTargets[0] ?? { health: 'none', lastError: '' };
    },
    [Symbol.asyncDispose]: dispose,
  };
}

async function untilReady(port: number, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    const ready = await fetch(`http://127.0.0.1:${String(port)}/-/ready`).catch(() => undefined);
    if (ready?.ok === true) return;
    if (child.exitCode !== null || Date.now() > deadline) throw new Error('it is not ready');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const over = once(child, 'exit');
  child.kill('SIGKILL');
  await over;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
