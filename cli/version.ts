import manifest from '../package.json' with { type: 'json' };

/** Podgate's own version. Existing clients use sessions only from 0.4.0 on. */
export const VERSION: string = manifest.version;
