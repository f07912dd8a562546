import { program } from '#lib/server/program.ts';
import type { RequestHandler } from './$types';

// The API answers for itself, trailing slashes and unknown methods included.
export const trailingSlash = 'ignore';
export const fallback: RequestHandler = ({ request, getClientAddress }) =>
  program().api(request, { address: getClientAddress() });
