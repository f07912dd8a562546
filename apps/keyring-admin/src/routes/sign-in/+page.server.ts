import { visitorApi } from '#lib/server/api.ts';
import type { PageServerLoad } from './$types';

interface WhoAmI {
  readonly person: string;
  readonly kind: string;
}

/** Who is signed in already, if anybody. */
export const load: PageServerLoad = async (event) => {
  try {
    const { person, kind } = await visitorApi(event).get<WhoAmI>('/api/session');
    return { person: kind === 'session' ? person : undefined };
  } catch {
    return { person: undefined };
  }
};
