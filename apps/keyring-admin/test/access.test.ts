import { describe, expect, it } from 'vitest';
import { fillProject } from './support/server.ts';
import { useSite } from './support/site.ts';

describe('access, in a real browser', () => {
  const site = useSite((place) => fillProject(place.keyring, 'acme', 2));

  it('a token is made, shown once, used, and of no use once it is revoked', async () => {
    const page = await site.visitor.open('/settings');
    await page.getByText('Make a token').click();
    await page.getByLabel('Name', { exact: true }).fill('deploy');
    await page.locator('#token-role').selectOption('auditor');
    await page.getByRole('button', { name: 'Make the token' }).click();
    const token = await page.locator('pre').innerText();
    const ask = () => fetch(`${site.server.url}/api/keys`, { headers: { authorization: `Bearer ${token}` } });
    expect((await ask()).status).toBe(200);
    await page.reload();
    await page.getByText('deploy').first().waitFor();
    expect(await page.content()).not.toContain(token);

    await page.getByText('Revoke…').click();
    await page.getByLabel('Type “deploy” to confirm').fill('deploy');
    await page.getByRole('button', { name: 'Revoke deploy' }).click();
    await page.getByText('The token deploy is revoked').waitFor();
    expect((await ask()).status).toBe(401);
    await page.close();
  });

  it('a role is given to a person, and taken away', async () => {
    const page = await site.visitor.open('/settings');
    await page.getByText('Give somebody a role').click();
    await page.getByLabel('Who', { exact: true }).fill('Ada');
    await page.getByRole('button', { name: 'Give the role' }).click();
    // What the API says against it is beside the field, and what was typed is there.
    await expect.poll(() => page.getByLabel('Who', { exact: true }).getAttribute('aria-invalid')).toBe('true');
    expect(await page.getByLabel('Who', { exact: true }).inputValue()).toBe('Ada');
    await page.getByLabel('Who', { exact: true }).fill('person:ada');
    await page.getByRole('button', { name: 'Give the role' }).click();
    await page.getByText('person:ada has the role.').waitFor();
    await page.getByRole('listitem').filter({ hasText: 'person:ada' }).getByText('Take away…').click();
    await page.getByLabel('Type “person:ada” to confirm').fill('person:ada');
    await page.getByRole('button', { name: 'Take the role from person:ada' }).click();
    await page.getByText('person:ada has the role no more.').waitFor();
    await page.close();
  });

  it('the browser had nothing to complain of', () => {
    expect(site.visitor.complaints).toEqual([]);
  });
});
