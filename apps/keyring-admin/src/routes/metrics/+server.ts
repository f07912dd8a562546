import { program } from '#lib/server/program.ts';
import type { RequestHandler } from './$types';

export const trailingSlash = 'ignore';
export const fallback: RequestHandler = ({ request }) => program().api(request);
