import { fileList, fileUploaded } from '../../shared/api.ts';
import { Failure } from '../../shared/errors.ts';
import { PAGE_QUERY } from '../http/page.ts';
import type { Route } from '../http/route.ts';

const handle = () => {
  throw new Failure('internal', 'This route is described here and served elsewhere.');
};
const binary = { 'application/octet-stream': { schema: { type: 'string', contentEncoding: 'binary' } } };

/** What `/openapi.json` says of the routes in files.ts, which are a hono app of their own. */
export const FILE_DOCS: readonly Route[] = [
  {
    method: 'POST',
    path: '/v1/files',
    scope: 'files',
    handle,
    doc: {
      summary: 'Store a file',
      requestContent: {
        'multipart/form-data': {
          schema: {
            type: 'object',
            properties: { file: { type: 'string', contentEncoding: 'binary' } },
            required: ['file'],
          },
        },
      },
      responses: { 201: { description: 'It is stored until FILE_TTL_SEC is over', schema: fileUploaded } },
      problems: [413, 501, 503],
    },
  },
  {
    method: 'GET',
    path: '/v1/files',
    scope: 'files',
    handle,
    doc: {
      summary: 'List files, the oldest first',
      query: PAGE_QUERY,
      responses: { 200: { description: 'Those of this caller', schema: fileList } },
    },
  },
  {
    method: 'GET',
    path: '/v1/files/{id}',
    scope: 'files',
    handle,
    doc: {
      summary: 'Download a file',
      responses: { 200: { description: 'Its bytes', content: binary } },
      problems: [404, 503],
    },
  },
  {
    method: 'DELETE',
    path: '/v1/files/{id}',
    scope: 'files',
    handle,
    doc: { summary: 'Delete a file', responses: { 204: { description: 'It is gone' } }, problems: [404] },
  },
];
