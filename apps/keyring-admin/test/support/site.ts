import type { Browser } from 'playwright-core';
import { afterAll, beforeAll } from 'vitest';
import { openBrowser } from './browser.ts';
import { makePlace, startServer, type Place, type Server } from './server.ts';
import { visit, type Visitor } from './visitor.ts';

/** A server over a database of its own, and somebody who is signed in to it. There from the first test to the last. */
export interface Site {
  readonly place: Place;
  readonly browser: Browser;
  readonly visitor: Visitor;
  /** A test that stops it puts the next one here. */
  server: Server;
}

/** For one file; `fill` puts in what is there before the server starts. */
export function useSite(fill: (place: Place) => Promise<unknown> = () => Promise.resolve()): Site {
  const site = {} as { -readonly [Part in keyof Site]: Site[Part] };
  beforeAll(async () => {
    site.browser = await openBrowser();
    site.place = await makePlace();
    await fill(site.place);
    site.server = await startServer(site.place.environment);
    site.visitor = await visit(site.browser, site.place, () => site.server.url);
  });
  afterAll(async () => {
    // What came up before something did not.
    const { browser, server, place } = site as Partial<Site>;
    await browser?.close();
    await server?.[Symbol.asyncDispose]();
    await place?.[Symbol.asyncDispose]();
  });
  return site;
}
