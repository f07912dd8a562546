import { KeyringError, type Keyring } from '@meshhook/keyring';
import type { Command } from 'commander';
import { group, leaf } from '../command.ts';
import { withKeyring, type App } from '../session.ts';
import { table } from '../terminal/table.ts';
import { instant, line } from '../terminal/text.ts';

const LIST_LIMIT = 10_000;

export function registerProject(program: Command, app: App): void {
  const project = group(program, 'project', 'projects: what keys and secrets belong to');

  leaf(project, 'create <name>', 'makes a project', [
    'mh-keys project create acme',
    'mh-keys project create acme --owner 6f1c2f0e-0b0a-4d43-9a53-0c6a2b5b8f11',
  ])
    .option('--owner <uuid>', 'the user it belongs to (default: nobody, the nil UUID)')
    .action(async (name: string, { owner }: { owner?: string }) => {
      const { created, namesake } = await withKeyring(app, async (keyring) => {
        const project = await keyring.projects.create({ name, ...(owner === undefined ? {} : { owner }) });
        return { created: project, namesake: await isAmbiguous(keyring, name) };
      });
      app.terminal.result({ project: created }, () => line`Made the project ${created.name}: ${created.id}`);
      if (namesake) app.terminal.note('Another project has this name: from now on, use the ids of both.');
    });

  leaf(project, 'list', 'lists projects by name', ['mh-keys project list', 'mh-keys project list --json']).action(
    async () => {
      const { terminal } = app;
      const projects = await withKeyring(app, (keyring) => keyring.projects.list({ limit: LIST_LIMIT }));
      terminal.result({ projects }, () => {
        if (projects.length === 0) return 'There are no projects yet: `mh-keys project create NAME` makes one.';
        const columns = [
          { title: 'PROJECT', value: (one: (typeof projects)[number]) => one.name },
          { title: 'ID', value: (one: (typeof projects)[number]) => one.id },
          { title: 'OWNER', value: (one: (typeof projects)[number]) => one.owner },
          { title: 'CREATED', value: (one: (typeof projects)[number]) => instant(one.createdAt) },
        ];
        return table(projects, columns, (title) => terminal.style('bold', title));
      });
      if (projects.length === LIST_LIMIT)
        terminal.note(`These are the first ${String(LIST_LIMIT)}; there may be more.`);
    },
  );
}

async function isAmbiguous(keyring: Keyring, name: string): Promise<boolean> {
  return keyring.projects.resolve(name).then(
    () => false,
    (error: unknown) => error instanceof KeyringError && error.code === 'ambiguous_project',
  );
}
