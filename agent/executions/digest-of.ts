import { hash } from 'node:crypto';

/** Stands for a text in what is kept by the hundred thousand: a gateway may send long ones, and each costs the same. */
export const digestOf = (text: string): string => hash('sha256', text, 'base64url');
