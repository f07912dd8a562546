import { themeCookie, themeOf } from '#lib/theme.ts';
import type { LayoutServerLoad } from './$types';

export const load: LayoutServerLoad = ({ cookies, locals }) => ({
  theme: themeOf(cookies.get(themeCookie)),
  you: locals.you,
});
