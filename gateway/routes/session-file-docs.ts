import {
  mkdirRequest,
  moveRequest,
  treeUnpacked,
  workspaceEntry,
  workspaceList,
} from '../../shared/session-api.ts';
import { PAGE_QUERY } from '../http/page.ts';
import type { Route } from '../http/route.ts';

const PATH = {
  path: { description: 'In the workspace', schema: { type: 'string' }, required: true },
} as const;
const TREE_PATH = {
  path: { description: 'In the workspace; the workspace itself unless given', schema: { type: 'string' } },
};
const RANGE = {
  Range: { description: 'One range of bytes; several are answered whole', schema: { type: 'string' } },
};
const RECURSIVE = {
  recursive: {
    description: 'true: a folder with all that it holds',
    schema: { type: 'string', enum: ['true', 'false'], default: 'false' },
  },
};
const BYTES = { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } };
const TAR = { 'application/x-tar': { schema: { type: 'string', format: 'binary' } } };

const PROBLEMS = [403, 404, 409, 413, 422, 429, 502, 503];
const ENTRY = { 200: { description: 'What is there', schema: workspaceEntry } };

/** What OpenAPI says of the routes in session-files.ts. */
export const FILE_DOCS = {
  read: {
    summary: 'Read a file of a session, whole or the bytes that Range names',
    query: PATH,
    responses: {
      200: { description: 'The file', content: BYTES },
      206: { description: 'A part', content: BYTES },
    },
    problems: [...PROBLEMS, 416],
    headers: RANGE,
  },
  write: {
    summary: 'Write a file of a session, with the folders that lead to it',
    query: PATH,
    responses: ENTRY,
    problems: PROBLEMS,
    requestContent: BYTES,
  },
  remove: {
    summary: 'Delete a file or folder of a session',
    query: { ...PATH, ...RECURSIVE },
    responses: { 204: { description: 'It is gone' } },
    problems: PROBLEMS,
  },
  list: {
    summary: 'List a folder of a session, by name',
    query: { ...TREE_PATH, ...PAGE_QUERY },
    responses: { 200: { description: 'Links are named, not followed', schema: workspaceList } },
    problems: PROBLEMS,
  },
  stat: {
    summary: 'What a path of a session is',
    query: TREE_PATH,
    responses: ENTRY,
    problems: PROBLEMS,
  },
  mkdir: {
    summary: 'Make a folder in a session; one that is there is as good',
    query: {},
    responses: ENTRY,
    problems: PROBLEMS,
    request: mkdirRequest,
  },
  move: {
    summary: 'Move a file or folder of a session',
    query: {},
    responses: ENTRY,
    problems: PROBLEMS,
    request: moveRequest,
  },
  pack: {
    summary: 'Take a folder of a session as tar: its files, folders and links',
    query: TREE_PATH,
    responses: { 200: { description: 'The archive', content: TAR } },
    problems: PROBLEMS,
  },
  unpack: {
    summary:
      'Unpack a tar, compressed or not, into a folder of a session; one that is damaged is refused, what was unpacked before that stays',
    query: TREE_PATH,
    responses: { 200: { description: 'It is unpacked', schema: treeUnpacked } },
    problems: PROBLEMS,
    requestContent: TAR,
  },
} as const satisfies Record<string, Route['doc']>;
