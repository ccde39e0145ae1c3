import { basename } from 'node:path';

/** `-f`: a file of this machine and its path in the sandbox. */
export type StagedFile = { file: string; path: string };

const QUOTED = /^"((?:[^"\\]|\\.)*)"(?:=(.*))?$/s;

/**
 * FILE[=PATH]. As curl has it for the characters that its `-F` would take for its own: in double quotes FILE may hold `=`,
 * and `\"` and `\\` stand for a quote and a backslash.
 */
export function readStagedFile(text: string): StagedFile {
  const [, quoted, as] = QUOTED.exec(text) ?? [];
  if (quoted !== undefined) {
    const file = quoted.replace(/\\(["\\])/g, '$1');
    return { file, path: as ?? basename(file) };
  }
  const at = text.indexOf('=');
  if (at === -1) return { file: text, path: basename(text) };
  return { file: text.slice(0, at), path: text.slice(at + 1) };
}
