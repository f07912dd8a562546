import { describe, expect, it } from 'vitest';
import { query, session } from '../../../test/support/database.ts';
import { isLongRun } from '../../../test/support/long.ts';
import { arabicName, fillMany, longName, scriptName } from './support/demo.ts';
import { fillProject, startServer } from './support/server.ts';
import { useSite } from './support/site.ts';
import { desktop, hydrated, phone, visit } from './support/visitor.ts';

describe('the pages, in a real browser', () => {
  const site = useSite();

  it('without a project, a project and its first secret are made here', async () => {
    const page = await site.visitor.open('/secrets');
    await page.getByLabel('Name').fill('first');
    await page.getByRole('button', { name: 'Make it' }).click();
    await page.getByRole('heading', { name: 'first' }).waitFor();
    await page.getByLabel('Name').fill('STRIPE_KEY');
    await page.getByLabel('Value').fill('a value of the test');
    await page.getByRole('button', { name: 'Set', exact: true }).click();
    await page.getByText('STRIPE_KEY is set.').waitFor();
    const project = await site.place.keyring.projects.resolve('first');
    expect((await site.place.keyring.secrets.get(project.id, 'STRIPE_KEY'))?.value).toBe('a value of the test');
    await page.close();
  });

  it('a value is in the page only after it was revealed with a reason, is on the record, and is hidden again', async () => {
    const { id } = await site.place.keyring.projects.resolve('first');
    await site.visitor.context.grantPermissions(['clipboard-read', 'clipboard-write']);
    const page = await site.visitor.open(`/secrets/${id}`);
    expect(await page.content()).not.toContain('a value of the test');
    await page.getByText('Reveal…').click();
    await page.getByLabel('Why').fill('the partner asks');
    await page.getByRole('button', { name: 'Reveal STRIPE_KEY' }).click();
    await page.getByText('a value of the test').waitFor();
    await page.getByRole('button', { name: 'Copy' }).click();
    await page.getByText('Copied.').waitFor();
    expect(await page.evaluate('navigator.clipboard.readText()')).toBe('a value of the test');
    await page.getByRole('button', { name: 'Hide' }).click();
    await expect.poll(() => page.getByText('a value of the test').count()).toBe(0);
    // Nor does it stay when somebody looks elsewhere.
    await page.getByText('Reveal…').click();
    await page.getByLabel('Why').fill('once more');
    await page.getByRole('button', { name: 'Reveal STRIPE_KEY' }).click();
    await page.getByText('a value of the test').waitFor();
    await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
    await expect.poll(() => page.getByText('a value of the test').count()).toBe(0);
    expect(await page.content()).not.toContain('a value of the test');
    expect(await site.place.keyring.audit.list({ projectId: id })).toContainEqual(
      expect.objectContaining({ action: 'secret.revealed', reason: 'the partner asks' }),
    );
    await page.close();
  });

  it('a form that is refused says so beside the field, and keeps what was typed', async () => {
    const { id } = await site.place.keyring.projects.resolve('first');
    const page = await site.visitor.open(`/secrets/${id}`);
    await page.getByText('Delete…').click();
    const typed = page.getByLabel('Type “STRIPE_KEY” to confirm');
    await typed.fill('STRIPE');
    await page.getByRole('button', { name: 'Delete STRIPE_KEY' }).click();
    await page.getByText('This is not the name. Nothing was changed.').waitFor();
    expect(await typed.inputValue()).toBe('STRIPE');
    expect(await typed.getAttribute('aria-invalid')).toBe('true');
    await expect.poll(() => typed.evaluate((element) => element === document.activeElement)).toBe(true);
    expect(await site.place.keyring.secrets.get(id, 'STRIPE_KEY')).toBeDefined();
    await page.close();
  });

  it('names of any length, direction and content are shown as they are, and run nothing', async () => {
    for (const name of [scriptName, longName, arabicName]) await fillProject(site.place.keyring, name, 1);
    for (const viewport of [desktop, phone]) {
      for (const address of ['/keys', '/secrets']) {
        await using other = await visit(site.browser, site.place, () => site.server.url, { viewport });
        const page = await other.open(address);
        for (const name of [scriptName, longName, arabicName]) await page.getByText(name).first().waitFor();
        expect(await page.evaluate('window.owned')).toBeUndefined();
        expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(viewport.width);
        expect(other.complaints).toEqual([]);
      }
    }
  });

  it('among thousands of projects one is found, and pages lead through the rest', async () => {
    await fillMany(site.place.database.adminUrl, site.place.keyring, isLongRun ? 100_000 : 3_000);
    const page = await site.visitor.open('/keys');
    await page.getByRole('link', { name: 'Next page' }).click();
    await page.getByRole('link', { name: 'First page' }).waitFor();
    await page.getByLabel('Project').fill('tenant 002917');
    await page.keyboard.press('Enter');
    await page.getByRole('link', { name: 'tenant 002917' }).waitFor();
    expect(await page.getByRole('rowheader').count()).toBe(1);

    // Where one is named, it is suggested.
    await page.goto(`${site.server.url}/schedule`);
    await hydrated(page);
    await page.locator('#filter-project').fill('tenant 00291');
    await page.locator('option[value="tenant 002917"]').waitFor({ state: 'attached' });
    await page.locator('#filter-project').fill('tenant of nobody');
    await page.getByRole('button', { name: 'Open' }).click();
    await page.locator('#filter-project-wrong').waitFor();
    expect(await page.locator('#filter-project').inputValue()).toBe('tenant of nobody');
    await page.close();
  });

  it('it is all there without scripts, and forms work', async () => {
    await using other = await visit(site.browser, site.place, () => site.server.url, { javaScriptEnabled: false });
    const { id } = await site.place.keyring.projects.resolve('first');
    const page = await other.open(`/secrets/${id}`);
    await page.getByLabel('Name').fill('PLAIN');
    await page.getByLabel('Value', { exact: true }).fill('without scripts');
    await page.getByRole('button', { name: 'Set', exact: true }).click();
    await page.getByText('PLAIN is set.').waitFor();
    expect((await site.place.keyring.secrets.get(id, 'PLAIN'))?.value).toBe('without scripts');
    await page.getByRole('button', { name: 'dark' }).click();
    expect(await page.locator('html').getAttribute('data-theme')).toBe('dark');
    await page.goto(`${site.server.url}/keys`);
    expect(await page.locator('html').getAttribute('data-theme')).toBe('dark');
  });

  it('the date of the last verified backup is told, and whether it holds all there is', async () => {
    const page = await site.visitor.open('/settings/keys');
    await page.getByText('There is none yet.').waitFor();
    const verified = async (days: number): Promise<void> => {
      await query(
        site.place.database.adminUrl,
        `insert into keyring.root_key_backups
                (id, root_fingerprint, wrapping_key_ids, recipients, written_at, verified_at)
         select gen_random_uuid(), repeat('0', 32), array[id], '{}', now(), now() - make_interval(hours => 24 * $1 + 1)
           from keyring.wrapping_keys`,
        [days],
      );
    };
    await verified(40);
    await verified(400);
    await page.reload();
    const said = page.getByText('A backup was last opened again and proved');
    expect(await said.innerText()).toContain('it holds every wrapping key');
    const at = (await said.locator('time').getAttribute('datetime')) ?? '';
    const days = (Date.now() - Date.parse(at)) / 86_400_000;
    expect(Math.floor(days)).toBe(40);
    await page.close();
  });

  it('pages that are left open come back after the server did, and a rotation is watched to its end', async () => {
    const page = await site.visitor.open('/settings/keys');
    const { id } = await site.place.keyring.projects.resolve('first');
    await using holder = await session(site.place.database.adminUrl, 'holder');
    await holder.query('begin');
    await holder.query('select from public.secrets where project_id = $1 limit 1 for update', [id]);
    const rotation = await site.place.keyring.rotations.request({ projects: [id] });
    const watched = await site.visitor.open(`/rotations/${rotation.id}`);
    await watched.getByRole('status').getByText('running').waitFor();
    const before = site.visitor.complaints.length;
    const { port } = new URL(site.server.url);
    await site.server.stop();
    await page.getByText('tries again by itself').waitFor();
    site.server = await startServer({ ...site.place.environment, PORT: port });
    await expect.poll(() => page.getByText('tries again by itself').count()).toBe(0);
    await holder.query('rollback');
    await watched.getByRole('status').getByText('completed').waitFor();
    await watched.close();
    await page.close();
    // That the server was away is no complaint.
    site.visitor.complaints.splice(before);
  });

  it('the browser had nothing to complain of', () => {
    expect(site.visitor.complaints).toEqual([]);
  });
});
