/** What OpenAPI says of the parameters and bodies of the routes in session-files.ts. */
export const PATH = {
  path: { description: 'In the workspace', schema: { type: 'string' }, required: true },
} as const;
export const TREE_PATH = {
  path: { description: 'In the workspace; the workspace itself unless given', schema: { type: 'string' } },
};
export const RANGE = {
  Range: { description: 'One range of bytes; several are answered whole', schema: { type: 'string' } },
};
export const RECURSIVE = {
  recursive: {
    description: 'true: a folder with all that it holds',
    schema: { type: 'string', enum: ['true', 'false'], default: 'false' },
  },
};
export const BYTES = { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } };
export const TAR = { 'application/x-tar': { schema: { type: 'string', format: 'binary' } } };
