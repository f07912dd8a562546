import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { session } from '../../../test/support/database.ts';
import { fillProject, until } from './support/server.ts';
import { useSite } from './support/site.ts';

describe('the trail, in a real browser', () => {
  const site = useSite((place) => fillProject(place.keyring, 'acme', 5));

  it('is filtered, and shows each entry in full', async () => {
    const page = await site.visitor.open('/audit');
    // What is wrong with a filter is beside it, and what was asked for is there.
    await page.getByLabel('Action').fill('key');
    await page.getByRole('button', { name: 'Filter' }).click();
    await page.locator('#filter-action-wrong').waitFor();
    expect(await page.getByLabel('Action').inputValue()).toBe('key');
    await page.getByLabel('Action').fill('key.*');
    await page.getByLabel('Project').fill('nobody knows it');
    await page.getByRole('button', { name: 'Filter' }).click();
    await page.locator('#filter-project-wrong').waitFor();
    expect(await page.getByLabel('Project').inputValue()).toBe('nobody knows it');
    await page.getByLabel('Project').fill('acme');
    await page.getByRole('button', { name: 'Filter' }).click();
    await page.getByRole('link', { name: 'Show all' }).waitFor();
    const entries = page.getByRole('list', { name: /Entries/ }).locator('> li');
    await expect.poll(async () => (await entries.allInnerTexts()).every((text) => text.startsWith('key '))).toBe(true);
    await entries.first().locator('summary').click();
    await entries.first().getByText('To what').waitFor();
    const [acme] = await site.place.keyring.projects.list();
    const ofProject = entries.first().getByRole('link', { name: 'acme' });
    expect(await ofProject.getAttribute('href')).toBe(`/keys/${String(acme?.id)}`);
    const href = await page.getByRole('link', { name: 'Export' }).getAttribute('href');
    const exported = await page.request.get(site.server.url + String(href));
    const lines = (await exported.text()).trimEnd().split('\n');
    expect(lines.every((line) => (JSON.parse(line) as { action: string }).action.startsWith('key.'))).toBe(true);
    await page.close();
  });

  it('verify says that it is intact, and after tampering where it is not', async () => {
    // Whoever is sealing meanwhile, all has its place in the end.
    await until(
      async () => {
        await site.place.keyring.audit.seal();
        return site.place.keyring.audit.health();
      },
      ({ unsealed }) => unsealed.entries === 0,
    );
    const page = await site.visitor.open('/audit');
    const kept = page.waitForEvent('download');
    await page.getByRole('link', { name: 'Download the last checkpoint' }).click();
    const checkpoint = await readFile(await (await kept).path(), 'utf8');
    await page.getByText('With a checkpoint that was kept elsewhere').click();
    await page.getByLabel('The whole text of it').fill(checkpoint);
    await page.getByRole('button', { name: 'Verify the trail' }).click();
    await page.getByText('The checkpoint that you gave is of this trail.').waitFor();
    await page.getByRole('button', { name: 'Verify the trail' }).click();
    await page.getByText(/^Intact:/).waitFor();

    const [entry] = await site.place.keyring.audit.list({ action: 'project.created' });
    await using admin = await session(site.place.database.adminUrl, 'tamper');
    await admin.query('set session_replication_role = replica');
    await admin.query(`update keyring.audit_log set actor = 'nobody' where id = $1`, [entry?.id]);
    await page.getByRole('button', { name: 'Verify the trail' }).click();
    const alert = page.getByRole('alert');
    await alert.getByText('altered').first().waitFor();
    expect(await alert.innerText()).toContain(entry?.id);
    await page.close();
  });

  it('the browser had nothing to complain of', () => {
    expect(site.visitor.complaints).toEqual([]);
  });
});
