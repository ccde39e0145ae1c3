import * as z from 'zod';

/** A cluster's name. */
export const clusterName = z.string().regex(/^[a-z0-9-]{1,63}$/, 'use 1 to 63 of a-z, 0-9 and -');
