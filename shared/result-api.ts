import * as z from 'zod';

/** A document of results, as user code's own process writes it: the runner's MAX_RESULTS_BYTES. */
export const MAX_RESULT_DOCUMENT_BYTES = 8_388_608;
const MAX_RESULTS = 32;
const valueKind = z.enum(['result', 'display', 'figure']);

const resultError = z.object({
  name: z.string().max(8_192),
  value: z.string().max(8_192),
  /** Outermost first. */
  frames: z.array(z.object({ file: z.string(), line: z.int(), name: z.string() })).max(64),
});
const omittedResults = z.array(z.object({ type: z.string(), reason: z.string() }));

/** Whether a representation is JSON: Plotly's `application/vnd.plotly.v1+json` is. */
export function isJsonType(type: string): boolean {
  return type === 'application/json' || type.endsWith('+json');
}

/** What a piece of Python sends beside its output. */
export const resultDocument = z.object({
  results: z
    .array(z.object({ kind: valueKind, data: z.record(z.string().max(128), z.string()) }))
    .max(MAX_RESULTS),
  omitted: omittedResults.max(MAX_RESULTS),
  error: resultError.nullable(),
});

/** What a piece of Python gives beside its output, as the API tells it. */
export const pythonResults = {
  results: z
    .array(
      z.object({
        kind: valueKind.describe(
          'the last value, one given to display(), or a figure that was shown or left open',
        ),
        data: z
          .record(z.string(), z.unknown())
          .describe('by media type: text as it is, JSON as JSON, anything else in base64'),
      }),
    )
    .describe('what the code gives, where `rich` asks for it'),
  results_omitted: omittedResults.describe(
    'representations that were too large or too many, and figures of code that was interrupted; `too_many_rows`: what is there has the first rows of a table, and not all; `fewer_dots`: a figure that would have been too large, with fewer dots an inch; `truncated`: the beginning of a text',
  ),
  error: resultError.nullable().describe('the exception that ended the code'),
};
export type PythonResults = {
  [Name in keyof typeof pythonResults]: z.infer<(typeof pythonResults)[Name]>;
};
