import { randomUUID } from 'node:crypto';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { query } from '../../../test/support/database.ts';
import { openBrowser } from './support/browser.ts';
import { fillProject, makePlace, startServer, type Place, type Server } from './support/server.ts';
import { hydrated, signIn, type Visitor } from './support/visitor.ts';

describe('several people, each in a browser of their own', () => {
  let place: Place;
  let server: Server;
  let browser: Browser;
  const visitors: Visitor[] = [];
  const join = async (person: string): Promise<Visitor> => {
    const visitor = await signIn(browser, place, () => server.url, person);
    visitors.push(visitor);
    return visitor;
  };

  beforeAll(async () => {
    browser = await openBrowser();
    place = await makePlace();
    server = await startServer(place.environment);
  });
  afterAll(async () => {
    await (browser as Browser | undefined)?.close();
    await (server as Server | undefined)?.[Symbol.asyncDispose]();
    await (place as Place | undefined)?.[Symbol.asyncDispose]();
  });

  it('who may only look is offered nothing to do, and who signs out is out', async () => {
    const id = await fillProject(place.keyring, 'looked at', 1);
    await place.keyring.access.grants.add({ person: 'person:eve', role: 'auditor' });
    const page = await (await join('person:eve')).open(`/keys/${id}`);
    const sections = page.getByRole('navigation', { name: 'Sections' }).getByRole('link');
    expect(await sections.allInnerTexts()).toEqual([
      ...['Overview', 'Keys', 'Rotations', 'Schedule', 'Audit', 'Settings'],
    ]);
    await page.getByRole('heading', { name: 'Version 1' }).waitFor();
    expect(await page.getByText('compromised…').count()).toBe(0);
    expect(await page.getByRole('link', { name: 'Rotate' }).count()).toBe(0);
    await page.getByRole('link', { name: 'Settings' }).click();
    await page.getByRole('heading', { name: 'Machines' }).waitFor();
    expect((await page.goto(`${server.url}/settings/approvals`))?.status()).toBe(403);

    await page.getByText('person:eve').waitFor();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    expect(await page.context().cookies()).toEqual([]);
    await page.goto(`${server.url}/keys`);
    expect(new URL(page.url()).pathname).toBe('/sign-in');
    await page.close();
  });

  it('who owns a project manages the access to it, knows of no other, and loses nothing typed when the session ends', async () => {
    const owner = randomUUID();
    const own = await place.keyring.projects.create({ name: 'mine', owner });
    const foreign = await place.keyring.projects.create({ name: 'not mine' });
    const { tokens, grants } = place.keyring.access;
    await tokens.create({ name: 'own job', role: 'service', projects: [own.id] });
    await tokens.create({ name: 'foreign job', role: 'service', projects: [foreign.id] });
    await tokens.create({ name: 'fleet job', role: 'auditor' });
    await grants.add({ person: 'person:own', role: 'project_admin', projectId: own.id });
    await grants.add({ person: 'person:foreign', role: 'project_admin', projectId: foreign.id });

    const visitor = await join(`user:${owner}`);
    const page = await visitor.open('/settings');
    await page.getByText('own job', { exact: true }).first().waitFor();
    await page.getByText('person:own', { exact: true }).first().waitFor();
    const said = await page.content();
    for (const foreignName of ['foreign', 'fleet job', 'not mine', 'Notifications', 'Machines', 'npm start']) {
      expect(said).not.toContain(foreignName);
    }
    await page.getByText('Give somebody a role').click();
    expect(await page.locator('#grant-role option').allInnerTexts()).not.toContainEqual(
      expect.stringContaining('instance admin'),
    );
    expect(await page.getByLabel('In the project').inputValue()).toBe('mine');
    await page.getByLabel('Who', { exact: true }).fill('person:new');
    await page.getByRole('button', { name: 'Give the role' }).click();
    await page.getByText('person:new has the role.').waitFor();
    for (const address of [`/keys/${foreign.id}`, `/secrets/${foreign.id}`]) {
      for (const path of [address, `${address}/__data.json`]) {
        const answer = await page.request.get(server.url + path);
        expect(await answer.text()).not.toContain('not mine');
      }
    }

    await page.goto(`${server.url}/secrets/${own.id}`);
    await hydrated(page);
    await page.getByLabel('Name').fill('TYPED');
    await page.getByLabel('Value', { exact: true }).fill('for an hour');
    const cookies = await visitor.context.cookies();
    await visitor.context.clearCookies();
    await page.getByRole('button', { name: 'Set', exact: true }).click();
    await page.getByText('then send this again').waitFor();
    expect(await page.getByLabel('Name').inputValue()).toBe('TYPED');
    await visitor.context.addCookies(cookies);
    await page.getByRole('button', { name: 'Set', exact: true }).click();
    await page.getByText('TYPED is set.').waitFor();
    expect((await place.keyring.secrets.get(own.id, 'TYPED'))?.value).toBe('for an hour');
    await page.close();
  });

  it('two people destroy a key early: who asks cannot approve it, and does it once another has', async () => {
    const id = await fillProject(place.keyring, 'acme', 1);
    const { id: rotation } = await place.keyring.rotations.request({ projects: [id] });
    await place.keyring.rotations.run(rotation);
    await place.keyring.access.grants.add({ person: 'person:ada', role: 'instance_admin' });

    const ada = await (await join('person:ada')).open(`/keys/${id}`);
    await ada.getByText('There is one instance admin by a grant').waitFor();
    await place.keyring.access.grants.add({ person: 'person:bob', role: 'instance_admin' });
    await ada.reload();
    await ada.getByText('person:ada').waitFor();
    expect(await ada.getByText('There is one instance admin by a grant').count()).toBe(0);

    const destroy = async (): Promise<void> => {
      await ada.getByText('Destroy version 1…').click();
      const form = ada.locator('form', { hasText: 'Destroy version 1' });
      await form.getByLabel('Before its retention is over, too').check();
      await form.getByLabel('Why').fill('the partner asks for it');
      await form.getByLabel('Type “acme” to confirm').fill('acme');
      await ada.getByRole('button', { name: 'Destroy version 1' }).click();
    };
    const state = async (): Promise<string | undefined> => {
      const [row] = await query<{ state: string }>(
        place.database.adminUrl,
        `select state from keyring.encryption_keys where project_id = $1 and version = 1`,
        [id],
      );
      return row?.state;
    };
    await destroy();
    await ada.getByText('A second person has to approve this.').waitFor();
    expect(await state()).not.toBe('destroyed');

    await ada.getByRole('link', { name: 'Approvals' }).click();
    await ada.getByText('Destroy a key before its retention is over').waitFor();
    // Not offered, and refused to who asks all the same.
    expect(await ada.getByRole('button', { name: 'Approve' }).count()).toBe(0);
    const [asked] = await place.keyring.access.approvals.list();
    const answer = await ada.request.post(`${server.url}/api/approvals/${asked?.id}/approve`, {
      headers: { origin: server.url },
      data: {},
    });
    expect(answer.status()).toBe(403);

    const bob = await (await join('person:bob')).open('/settings/approvals');
    await bob.getByRole('button', { name: 'Approve' }).click();
    await bob.getByText('Approved: who asked may do it now, once.').waitFor();
    expect(await state()).not.toBe('destroyed');
    await ada.goto(`${server.url}/keys/${id}`);
    await destroy();
    await ada.getByText('Version 1 is destroyed.').waitFor();
    expect(await state()).toBe('destroyed');
  });

  it('the browsers had nothing to complain of', () => {
    expect(visitors.flatMap(({ complaints }) => complaints)).toEqual([]);
  });
});
