import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { AxeResults } from 'axe-core';
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core';
import type { Place } from './server.ts';

export const phone = { width: 390, height: 844 };
export const desktop = { width: 1280, height: 900 };

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Somebody at a browser who is signed in, and everything that the browser complains of meanwhile. */
export interface Visitor extends AsyncDisposable {
  readonly context: BrowserContext;
  readonly complaints: string[];
  open(address: string): Promise<Page>;
}

export async function visit(
  browser: Browser,
  place: Place,
  url: () => string,
  options: BrowserContextOptions = {},
): Promise<Visitor> {
  return watch(browser, url, { extraHTTPHeaders: { authorization: await place.authorization() }, ...options });
}

/** As that person, by a sign-in link. */
export async function signIn(browser: Browser, place: Place, url: () => string, person: string): Promise<Visitor> {
  const { secret } = await place.keyring.access.sessions.createLink({ person });
  const visitor = await watch(browser, url, {});
  const page = await visitor.context.newPage();
  await page.goto(`${url()}/sign-in#${secret}`);
  await page.waitForURL(({ pathname }) => pathname !== '/sign-in');
  await page.close();
  return visitor;
}

async function watch(browser: Browser, url: () => string, options: BrowserContextOptions): Promise<Visitor> {
  const context = await browser.newContext({ viewport: desktop, ...options });
  context.setDefaultTimeout(120_000);
  const complaints: string[] = [];
  context.on('page', (page) => {
    page.on('console', (message) => {
      const isOurs = message.type() === 'error' || message.type() === 'warning';
      // An answer of 4xx to a form is an answer.
      if (isOurs && !/status of 4\d\d/.test(message.text())) complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('requestfailed', (request) => {
      const why = request.failure()?.errorText ?? '';
      // A page that is closed, or left, while it asks.
      if (why !== 'net::ERR_ABORTED') complaints.push(`${request.url()}: ${why}`);
    });
  });
  return {
    context,
    complaints,
    async open(address) {
      const page = await context.newPage();
      await page.goto(url() + address);
      if (options.javaScriptEnabled !== false) await hydrated(page);
      return page;
    },
    [Symbol.asyncDispose]: () => context.close(),
  };
}

/** The page answers by itself from here on. */
export async function hydrated(page: Page): Promise<void> {
  await page.locator('html[data-ready]').waitFor({ state: 'attached' });
}

/** What axe has against the page: each rule with the elements that break it. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  const { violations: found } = await page.evaluate<AxeResults>(
    `axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })`,
  );
  return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`);
}
