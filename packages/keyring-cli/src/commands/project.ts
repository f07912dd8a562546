import { KeyringError, type Keyring, type Project } from '@meshhook/keyring';
import type { Command } from 'commander';
import { group, leaf } from '../command.ts';
import { pagedAfter, sayMore, type Page } from '../page.ts';
import { withKeyring, type App } from '../session.ts';
import { table, type Column } from '../terminal/table.ts';
import { instant, line } from '../terminal/text.ts';

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

  const list = leaf(project, 'list', 'lists projects by name', ['mh-keys project list', 'mh-keys project list --json']);
  pagedAfter(list, { most: 10_000, of: 'project' }).action(async (page: Page) => {
    const { terminal } = app;
    const projects = await withKeyring(app, async (keyring) =>
      keyring.projects.list({
        limit: page.limit,
        ...(page.after === undefined ? {} : { after: await keyring.projects.resolve(page.after) }),
      }),
    );
    terminal.result({ projects }, () => {
      if (projects.length === 0) return 'There are no projects yet: `mh-keys project create NAME` makes one.';
      return table(projects, columns, (title) => terminal.style('bold', title));
    });
    sayMore(terminal, projects, page, ({ id }) => `--after ${id}`);
  });
}

async function isAmbiguous(keyring: Keyring, name: string): Promise<boolean> {
  return keyring.projects.resolve(name).then(
    () => false,
    (error: unknown) => error instanceof KeyringError && error.code === 'ambiguous_project',
  );
}

const columns: readonly Column<Project>[] = [
  { title: 'PROJECT', value: ({ name }) => name },
  { title: 'ID', value: ({ id }) => id },
  { title: 'OWNER', value: ({ owner }) => owner },
  { title: 'CREATED', value: ({ createdAt }) => instant(createdAt) },
];
