/** Light, dark, or as the system says: kept in a cookie, so that the server writes the page in it and nothing flashes. */
export const themes = ['system', 'light', 'dark'] as const;
export type Theme = (typeof themes)[number];

export const themeCookie = 'mh_theme';
export const themeCookieAge = 365 * 24 * 60 * 60;

export function themeOf(named: string | undefined): Theme {
  return themes.find((theme) => theme === named) ?? 'system';
}
