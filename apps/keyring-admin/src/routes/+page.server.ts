import { KeyringError } from '@meshhook/keyring';
import { statusOfCode } from '@meshhook/keyring-http';
import { error } from '@sveltejs/kit';
import { loadOverview } from '#lib/server/overview.ts';
import { program } from '#lib/server/program.ts';
import type { PageServerLoad } from './$types';

export const load: PageServerLoad = async ({ depends }) => {
  depends('keyring:overview');
  try {
    return { overview: await loadOverview(program().keyring) };
  } catch (thrown) {
    if (thrown instanceof KeyringError && statusOfCode[thrown.code] === 503) {
      error(503, 'The database does not answer, or is not ready.', { code: thrown.code });
    }
    throw thrown;
  }
};
