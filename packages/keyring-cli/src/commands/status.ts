import type { KeyVersion, Keyring, Project, Rotation } from '@meshhook/keyring';
import type { Command } from 'commander';
import { leaf } from '../command.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { age, count, day } from '../terminal/text.ts';
import { rotationTable } from '../views.ts';

const open: ReadonlySet<Rotation['state']> = new Set(['requested', 'running', 'paused', 'blocked', 'rolling_back']);
const PROJECT_LIMIT = 10_000;

export function registerStatus(program: Command, app: App): void {
  leaf(program, 'status', 'projects and their key versions: status (NIST SP 800-57), age, secrets, what is due', [
    'mh-keys status',
    'mh-keys status --project acme',
    'mh-keys status --json | jq \'.keys[] | select(.status == "active")\'',
  ])
    .option('--project <project>', 'name or id (default: all projects)')
    .action(async ({ project }: { project?: string }) => {
      const { terminal } = app;
      const status = await withKeyring(app, (keyring) => read(keyring, project));
      terminal.result(status, () => {
        if (status.projects.length === 0) return 'There are no projects yet: `mh-keys project create NAME` makes one.';
        const sections = [table(lines(status), columns(new Date()), (title) => terminal.style('bold', title))];
        if (status.openRotations.length > 0) {
          sections.push(`Open rotations\n${rotationTable(terminal, status.openRotations)}`);
        }
        return sections.join('\n\n');
      });
      if (status.projects.length === PROJECT_LIMIT) {
        terminal.note(`These are the first ${count(PROJECT_LIMIT)} projects; name one with --project.`);
      }
    });
}

interface Status {
  readonly projects: readonly Project[];
  readonly keys: readonly KeyVersion[];
  readonly openRotations: readonly Rotation[];
}

async function read(keyring: Keyring, nameOrId: string | undefined): Promise<Status> {
  const only = nameOrId === undefined ? undefined : await keyring.projects.resolve(nameOrId);
  const [projects, keys, rotations] = await Promise.all([
    only === undefined ? keyring.projects.list({ limit: PROJECT_LIMIT }) : [only],
    keyring.keys.list({ limit: PROJECT_LIMIT, ...(only === undefined ? {} : { projectId: only.id }) }),
    keyring.rotations.list({ limit: 500 }),
  ]);
  return { projects, keys, openRotations: rotations.filter(({ state }) => open.has(state)) };
}

interface Line {
  readonly project: string;
  readonly key: KeyVersion | undefined;
}

/** A line a version, the newest first; one for a project without any. */
function lines({ projects, keys }: Status): Line[] {
  const byProject = Map.groupBy(keys, ({ projectId }) => projectId);
  return projects.flatMap(({ id, name }): Line[] => {
    const versions = byProject.get(id) ?? [];
    if (versions.length === 0) return [{ project: name, key: undefined }];
    return versions.toSorted((a, b) => b.version - a.version).map((key) => ({ project: name, key }));
  });
}

function columns(now: Date): readonly Column<Line>[] {
  const ageOf = (key: KeyVersion | undefined): string =>
    key === undefined ? '-' : age(now.getTime() - key.createdAt.getTime());
  return [
    { title: 'PROJECT', value: ({ project }) => project },
    { title: 'VERSION', value: ({ key }) => key?.version.toString() ?? '-', align: 'right' },
    { title: 'STATUS', value: ({ key }) => key?.status ?? 'no key yet' },
    { title: 'AGE', value: ({ key }) => ageOf(key), align: 'right' },
    { title: 'SECRETS', value: ({ key }) => (key === undefined ? '-' : count(key.rows)), align: 'right' },
    { title: 'NEXT DUE', value: ({ key }) => day(key?.nextDueAt) },
    { title: 'KEPT UNTIL', value: ({ key }) => day(key?.retentionUntil) },
  ];
}
