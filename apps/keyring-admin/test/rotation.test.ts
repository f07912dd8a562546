import { describe, expect, it } from 'vitest';
import { query, session } from '../../../test/support/database.ts';
import { fillProject } from './support/server.ts';
import { useSite } from './support/site.ts';

describe('rotations, in a real browser', () => {
  const site = useSite();

  /** Holds one row, so that a rotation of the project cannot end before it is let go. */
  async function whileHeld(project: string, work: () => Promise<void>): Promise<void> {
    await using holder = await session(site.place.database.adminUrl, 'holder');
    await holder.query('begin');
    await holder.query('select from public.secrets where project_id = $1 limit 1 for update', [project]);
    await work();
  }

  it('rotate now: a dry run, then the rotation, watched to its end while a writer writes', async () => {
    const id = await fillProject(site.place.keyring, 'acme', 40);
    const page = await site.visitor.open('/rotate');
    await page.getByRole('link', { name: /Nothing leaked/ }).click();
    await page.getByLabel('These:').check();
    await page.getByLabel('Names or ids').fill('acme');
    await page.getByLabel('Why').fill('quarterly');
    await page.getByLabel('At full speed').check();
    await page.getByRole('button', { name: 'Dry run' }).click();
    await page.getByText('40 secrets in 1 project would move').waitFor();
    expect(await page.getByLabel('Why').inputValue()).toBe('quarterly');
    expect(await page.getByLabel('At full speed').isChecked()).toBe(true);
    expect(await site.place.keyring.rotations.list()).toEqual([]);

    let written = 0;
    await whileHeld(id, async () => {
      await page.getByRole('button', { name: 'Rotate now' }).click();
      await page.getByRole('heading', { name: 'Rotation of acme' }).waitFor();
      await page.getByText('running').waitFor();
      // By itself, as it goes: all but the one row that is held.
      await page.getByText('39 of 40 secrets').waitFor();
      for (; written < 5; written += 1)
        await site.place.keyring.secrets.put(id, `WRITTEN_${written}`, `value ${written}`);
      // It is there again after a reload, at once.
      await page.reload();
      await page.getByText('running').waitFor();
    });
    await page.getByRole('status').getByText('completed').waitFor();
    await expect.poll(() => page.getByRole('link', { name: /receipt of acme/ }).count()).toBe(1);
    const download = page.waitForEvent('download');
    await page.getByRole('link', { name: /receipt of acme/ }).click();
    expect((await download).suggestedFilename()).toBe(`receipt-${id}.json`);
    for (let index = 0; index < written; index += 1) {
      expect(await site.place.keyring.secrets.get(id, `WRITTEN_${index}`)).toMatchObject({
        value: `value ${index}`,
        stale: false,
      });
    }
    await page.close();
  });

  it('pause, resume, another pace with its charts, and roll back', async () => {
    const id = await fillProject(site.place.keyring, 'turned back', 10);
    const page = await site.visitor.open(`/rotate?why=routine&project=${id}`);
    await whileHeld(id, async () => {
      await page.getByRole('button', { name: 'Rotate now' }).click();
      await page.getByText('running').waitFor();
      await page.getByRole('button', { name: 'Pause' }).click();
      await page.getByRole('status').getByText('paused', { exact: true }).waitFor();
      await page.getByRole('button', { name: 'Resume' }).click();
      await page.getByRole('status').getByText('running').waitFor();
      await page.getByText('Change its pace').click();
      for (const rate of ['50', 'fast', '60', '70', '80']) {
        await page.getByLabel('At most, rows a second').fill(rate);
        await page.getByRole('button', { name: 'Change the pace' }).click();
        await page
          .getByText(rate === 'fast' ? 'A whole number, or nothing.' : `at most ${rate} rows a second for each process`)
          .waitFor();
      }
      await page.getByRole('img', { name: /^Rows a second: at most/ }).waitFor();
      // A busy server times no reads; each change of the pace is another event that may tell of some.
      const reads = page.getByRole('img', { name: /^Milliseconds that a read takes/ });
      for (let rate = 81; rate < 200 && !(await reads.isVisible()); rate += 1) {
        await page.getByLabel('At most, rows a second').fill(String(rate));
        await page.getByRole('button', { name: 'Change the pace' }).click();
        await page.getByText(`at most ${rate} rows a second for each process`).waitFor();
      }
      await reads.waitFor();
      await page.getByText('Roll back…').click();
      await page.getByLabel('Type “roll back” to confirm').fill('roll back');
      await page.getByRole('button', { name: 'Roll back' }).click();
      await page.getByRole('status').getByText('rolling back', { exact: true }).waitFor();
    });
    await page.getByRole('status').getByText('rolled back').waitFor();
    const keys = await site.place.keyring.keys.list({ projectId: id });
    expect(keys.find(({ active }) => active)?.version).toBe(1);
    await page.close();
  });

  it('a blocked rotation names the row, and completes once the row is mended', async () => {
    const id = await fillProject(site.place.keyring, 'broken', 3);
    const flip = async (): Promise<void> => {
      await using admin = await session(site.place.database.adminUrl, 'flip');
      await admin.query('set session_replication_role = replica');
      await admin.query(
        `update public.secrets set value_encrypted = set_byte(value_encrypted, length(value_encrypted) - 1,
           get_byte(value_encrypted, length(value_encrypted) - 1) # 1) where project_id = $1 and key = 'SECRET_1'`,
        [id],
      );
    };
    await flip();
    const page = await site.visitor.open(`/rotate?why=routine&project=${id}`);
    await page.getByRole('button', { name: 'Rotate now' }).click();
    await page.getByRole('status').getByText('blocked').waitFor();
    await page.getByRole('heading', { name: '1 row does not open' }).waitFor();
    expect(await page.getByText('SECRET_1').first().isVisible()).toBe(true);
    await page.getByRole('listitem').filter({ hasText: 'Re-encrypting' }).getByText('blocked here').waitFor();
    await page.getByRole('link', { name: '1 blocked' }).click();
    await page.getByRole('heading', { name: 'Projects of a rotation' }).waitFor();
    await page.getByRole('table').getByRole('link', { name: 'broken' }).waitFor();
    await page.getByLabel('Phase').selectOption('completed');
    await page.getByText('No project of this rotation is like that.').waitFor();
    await page.getByRole('link', { name: 'The rotation', exact: true }).click();
    await page.getByRole('button', { name: 'Try them again' }).click();
    await page.getByText('0 of 1 open now; 1 still do not.').waitFor();
    await flip();
    await page.getByRole('button', { name: 'Try them again' }).click();
    await page.getByRole('status').getByText('completed').waitFor();
    await page.close();
  });

  it('a key that leaked is left at once, and what was under it is listed to be changed', async () => {
    const id = await fillProject(site.place.keyring, 'leaky', 3);
    const page = await site.visitor.open(`/keys/${id}`);
    await page.getByText('Mark version 1 compromised…').click();
    await page.getByLabel('Why').fill('in a public repository');
    await page.getByLabel('Type “leaky” to confirm').fill('leaky');
    await page.getByRole('button', { name: 'Mark version 1 compromised' }).click();
    await page.getByRole('link', { name: 'Watch the emergency rotation' }).click();
    await page.getByRole('status').getByText('completed').waitFor();
    await page.getByRole('link', { name: 'leaky', exact: true }).click();
    await page.getByText('compromised').first().waitFor();
    await page.getByRole('link', { name: 'What was ever under it' }).last().click();
    await page.getByRole('heading', { name: 'Exposure of version 1' }).waitFor();
    expect(await page.getByText('yes: change it').count()).toBe(3);
    await page.close();
  });

  it('what leaves a leaked key is tried first, whatever is typed yet, and changes nothing by that', async () => {
    const id = await fillProject(site.place.keyring, 'tried first', 3);
    const before = (await site.place.keyring.rotations.list()).length;
    const page = await site.visitor.open('/rotate?why=wrapping-key');
    await page.getByRole('button', { name: 'Dry run of the secrets' }).click();
    await page.getByText('would move to a new key').waitFor();

    await page.goto(`${site.server.url}/rotate?why=data-key`);
    await page.getByRole('button', { name: 'Dry run' }).click();
    await page.getByText('Which project?').waitFor();
    const project = page.locator('input[name=project]');
    await project.fill('tried first');
    await page.getByRole('button', { name: 'Dry run' }).click();
    await page.getByText('3 secrets in 1 project would move to a new key').waitFor();
    expect((await site.place.keyring.rotations.list()).length).toBe(before);

    expect(await project.inputValue()).toBe('tried first');
    await page.getByRole('textbox', { name: 'What happened' }).fill('in a public repository');
    await page.getByLabel(/to confirm/).fill('tried first');
    await page.getByRole('button', { name: 'Leave the leaked key now' }).click();
    await page.getByRole('status').getByText('completed').waitFor();
    const [, now] = await site.place.keyring.keys.list({ projectId: id });
    expect(now).toMatchObject({ status: 'active', rows: 3 });
    await page.close();
  });

  it('the keyboard alone rotates a project', async () => {
    await fillProject(site.place.keyring, 'typed', 2);
    const page = await site.visitor.open('/rotate');
    const reach = async (name: RegExp | string, role: 'link' | 'button' | 'radio' | 'textbox'): Promise<void> => {
      const wanted = page.getByRole(role, { name });
      for (let presses = 0; presses < 60; presses += 1) {
        await page.keyboard.press('Tab');
        if (await wanted.evaluate((element) => element === document.activeElement)) return;
      }
      throw new Error(`${role} ${String(name)} is not reached by Tab`);
    };
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to the content');
    await page.keyboard.press('Enter');
    await reach(/Nothing leaked/, 'link');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Nothing leaked' }).waitFor();
    await reach('All that are due', 'radio');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    await reach(/Names or ids/, 'textbox');
    await page.keyboard.type('typed');
    await reach('Rotate now', 'button');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Rotation of typed' }).waitFor();
    await page.getByRole('status').getByText('completed').waitFor();
    await page.close();
  });

  it('the browser had nothing to complain of', async () => {
    expect(site.visitor.complaints).toEqual([]);
    const [open] = await query<{ count: string }>(
      site.place.database.adminUrl,
      `select count(*) from keyring.rotations where finished_at is null`,
    );
    expect(open?.count).toBe('0');
  });
});
