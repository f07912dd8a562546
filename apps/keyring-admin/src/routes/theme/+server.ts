import { redirect } from '@sveltejs/kit';
import { themeCookie, themeCookieAge, themeOf } from '#lib/theme.ts';
import type { RequestHandler } from './$types';

/** The switch without scripts. With scripts the page does it by itself. */
export const POST: RequestHandler = async ({ request, cookies, url }) => {
  const form = await request.formData();
  const text = (name: string): string | undefined => {
    const value = form.get(name);
    return typeof value === 'string' ? value : undefined;
  };
  cookies.set(themeCookie, themeOf(text('theme')), {
    path: '/',
    maxAge: themeCookieAge,
    httpOnly: false,
    sameSite: 'lax',
  });
  const back = URL.parse(text('back') ?? '/', url.origin);
  redirect(303, back?.origin === url.origin ? back.pathname.replace(/^\/+/, '/') + back.search : '/');
};
