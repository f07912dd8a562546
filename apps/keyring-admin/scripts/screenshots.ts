/**
 * Every page in its main states, light and dark, on a desktop and on a phone, into apps/keyring-admin/screenshots/: to be looked at.
 * Run by `npm run screenshots -w apps/keyring-admin [-- NAME …]`, after `npm run build`. With `readme` as the name it makes
 * docs/images/ anew.
 */
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { BrowserContext, Page } from 'playwright-core';
import { arabicName, longName, scriptName } from '../test/support/demo.ts';
import { openStage, type Stage } from '../test/support/stage.ts';
import { desktop, phone } from '../test/support/visitor.ts';

interface Shot {
  readonly address: string;
  /** What is done there before it is looked at. */
  readonly act?: (page: Page) => Promise<void>;
}

const folder = path.join(import.meta.dirname, '../screenshots');
const devices = { desktop, phone };
const only = process.argv.slice(2);
const forReadme = only.includes('readme');
const isWanted = (name: string): boolean => only.length === 0 || only.includes(name);

if (forReadme) {
  await using stage = await openStage();
  const shots = shotsOf(stage, await startSlowRotation(stage));
  await using context = await stage.signIn({ colorScheme: 'light', viewport: { width: 1120, height: 760 } });
  const images = path.join(import.meta.dirname, '../../../docs/images');
  await take(context, stage.url, shots['rotation-running'], path.join(images, 'rotation.png'), false);
  await take(context, stage.url, shots['overview'], path.join(images, 'overview.png'), false);
} else {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await using stage = await openStage();
  // First, on every device: it is over after a while.
  if (isWanted('rotation-running')) {
    const { 'rotation-running': running } = shotsOf(stage, await startSlowRotation(stage));
    await look(stage, { 'rotation-running': running });
  }
  const others = Object.entries(shotsOf(stage, '')).filter(([name]) => name !== 'rotation-running');
  await look(stage, Object.fromEntries(others));
}
if (only.length === 0 || only.some((name) => name.startsWith('empty'))) {
  await using stage = await openStage({ empty: true });
  const places = ['', 'keys', 'rotations', 'schedule', 'secrets', 'settings'];
  await look(
    stage,
    Object.fromEntries(places.map((place) => [`empty-${place || 'overview'}`, { address: `/${place}` }])),
  );
}
console.log(`Screenshots are in ${forReadme ? 'docs/images' : folder}`);

function shotsOf({ demo, leakedKey }: Stage, running: string) {
  const idOf = (name: string): string => demo.projects.get(name) ?? '';
  const acme = idOf('acme');
  const at = (address: string, act?: Shot['act']): Shot => ({ address, ...(act === undefined ? {} : { act }) });
  return {
    'rotation-running': at(`/rotations/${running}`, async (page) => {
      await page.getByText('Reading a secret meanwhile').waitFor();
      await page.waitForTimeout(4_000);
    }),
    overview: at('/', async (page) => {
      await page.locator('.layercake-container rect').first().waitFor();
    }),
    keys: at('/keys'),
    'keys-none': at('/keys?search=nobody'),
    project: at(`/keys/${acme}`),
    'project-destroy': at(`/keys/${acme}`, async (page) => {
      await page
        .getByText(/^Destroy version/)
        .first()
        .click();
    }),
    'project-long': at(`/keys/${idOf(longName)}`),
    'project-arabic': at(`/keys/${idOf(arabicName)}`),
    'project-script': at(`/keys/${idOf(scriptName)}`),
    exposure: at(`/keys/${idOf('mobile-push')}/exposure/${leakedKey}`),
    rotate: at('/rotate'),
    'rotate-routine': at('/rotate?why=routine&project=acme'),
    'rotate-plan': at('/rotate?why=routine', async (page) => {
      await page.getByLabel('All that have a key').check();
      await page.getByRole('button', { name: 'Dry run' }).click();
      await page.getByText('Nothing was changed.').waitFor();
    }),
    'rotate-data-key': at('/rotate?why=data-key'),
    'rotate-wrapping-key': at('/rotate?why=wrapping-key'),
    'rotate-root-key': at('/rotate?why=root-key'),
    'rotate-value': at('/rotate?why=value'),
    'rotate-person': at('/rotate?why=person'),
    rotations: at('/rotations'),
    'rotation-blocked': at(`/rotations/${demo.blocked}`),
    'rotation-completed': at(`/rotations/${demo.completed}`),
    'rotation-projects': at(`/rotations/${demo.completed}/projects?state=completed`),
    schedule: at('/schedule'),
    'schedule-preview': at('/schedule', async (page) => {
      await page.getByLabel('Every').fill('30');
      await page.getByLabel('In quiet hours').check();
      await page.getByRole('button', { name: 'Preview the dates' }).click();
      await page.getByText('What it would be').waitFor();
    }),
    'schedule-wrong': at('/schedule', async (page) => {
      await page.getByLabel('Every').fill('often');
      await page.getByRole('button', { name: 'Save' }).click();
      await page.getByText('A number above 0.').waitFor();
    }),
    'schedule-project': at(`/schedule?project=${acme}`),
    secrets: at('/secrets'),
    'secrets-project': at(`/secrets/${acme}`),
    'secrets-revealed': at(`/secrets/${acme}`, async (page) => {
      await page.getByText('Reveal…').first().click();
      await page.getByLabel('Why').first().fill('the partner asks');
      await page
        .getByRole('button', { name: /^Reveal/ })
        .first()
        .click();
      await page.getByRole('button', { name: 'Hide' }).waitFor();
    }),
    audit: at('/audit'),
    'audit-verified': at('/audit', async (page) => {
      await page.getByRole('button', { name: 'Verify the trail' }).click();
      await page.getByText(/^Intact:/).waitFor();
      await page
        .getByRole('list', { name: /Entries/ })
        .locator('summary')
        .first()
        .click();
    }),
    settings: at('/settings'),
    'settings-token': at('/settings', async (page) => {
      await page.getByText('Make a token').click();
      await page.getByLabel('Name', { exact: true }).fill('nightly report');
      await page.getByRole('button', { name: 'Make the token' }).click();
      await page.getByText('It is shown this once').waitFor();
    }),
    'settings-approvals': at('/settings/approvals'),
    'settings-notifications': at('/settings/notifications'),
    'settings-machines': at('/settings/machines'),
    'settings-keys': at('/settings/keys'),
    'not-here': at('/nothing'),
    'sign-in': at('/sign-in'),
  };
}

async function look(stage: Stage, shots: Readonly<Record<string, Shot>>): Promise<void> {
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const [device, viewport] of Object.entries(devices)) {
      await using context = await stage.signIn({ colorScheme, viewport });
      for (const [name, shot] of Object.entries(shots)) {
        if (isWanted(name))
          await take(context, stage.url, shot, path.join(folder, `${name}-${device}-${colorScheme}.png`));
      }
    }
  }
}

async function take(
  context: BrowserContext,
  url: string,
  { address, act }: Shot,
  file: string,
  fullPage = true,
): Promise<void> {
  const page = await context.newPage();
  try {
    await page.goto(url + address, { waitUntil: 'load' });
    await page.locator('html[data-ready]').waitFor({ state: 'attached' });
    await act?.(page);
    await page.screenshot({ path: file, fullPage });
  } catch (error) {
    console.error(`${file}: ${String(error)}`);
    process.exitCode = 1;
  } finally {
    await page.close();
  }
}

/** One that takes a minute or two, to be watched meanwhile. */
async function startSlowRotation({ keyring }: Stage): Promise<string> {
  const { id } = await keyring.projects.create({ name: 'orders' });
  const names = Array.from({ length: 1_500 }, (_, index) => `ORDER_TOKEN_${index}`);
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let name = names.pop(); name !== undefined; name = names.pop()) await keyring.secrets.put(id, name, 'value');
    }),
  );
  const { id: rotation } = await keyring.rotations.request({ projects: [id], reason: 'quarterly', maxRate: 25 });
  return rotation;
}
