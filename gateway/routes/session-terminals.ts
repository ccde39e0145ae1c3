import { Failure } from '../../shared/errors.ts';
import { MAX_TERMINAL_SIDE, MAX_TERMINALS } from '../../shared/limits.ts';
import { terminalName } from '../../shared/session-messages.ts';
import { askInstance } from '../clusters/ask-instance.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { CANCEL_TIMEOUT_MS } from '../execution/sister-link.ts';
import type { GatewayDeps } from '../gateway-deps.ts';
import { checkSchema } from '../http/parse-json.ts';
import { problemResponse } from '../http/problem-response.ts';
import type { KeyedContext, Route } from '../http/route.ts';
import type { SessionBook } from '../sessions/session-book.ts';
import { noTerminal, requireHadHere } from '../terminals/terminal-door.ts';
import { readTerminalQuery, TERMINAL_SUBPROTOCOL } from '../terminals/terminal-request.ts';

const PATH = '/v1/sessions/{id}/terminals/{name}';
const PROBLEMS = [403, 404, 409, 422, 429, 502, 503];
const side = { type: 'integer', minimum: 1, maximum: MAX_TERMINAL_SIDE };

/** Terminals for those who come without an upgrade, and their end. */
export function createSessionTerminalRoutes(
  { ids, directory }: Pick<GatewayDeps, 'ids'> & { directory: ClusterDirectory },
  book: SessionBook,
): Route[] {
  async function terminalOf({ caller, params, pathCluster }: KeyedContext) {
    const place = await book.find(caller, params.id ?? '', pathCluster);
    const name = checkSchema(terminalName, params.name);
    const terminals = await book.terminals(caller, place);
    return { place, name, terminals, terminal: terminals.find((each) => each.name === name) };
  }

  /** A WebSocket is not told why it was refused: who asks without an upgrade is, as far as that is known without one. */
  async function explain(context: KeyedContext): Promise<Response> {
    const { place, name, terminals, terminal } = await terminalOf(context);
    const { create, resume } = readTerminalQuery(new URL(context.request.url));
    if (resume !== null) await requireHadHere(ids, resume, context.caller, place);
    else if (!terminal && !create) throw noTerminal(name);
    else if (!terminal && terminals.length >= MAX_TERMINALS)
      throw new Failure('busy', `At most ${MAX_TERMINALS} terminals are open in one session.`, {
        retryAfterMs: 1_000,
      });
    const failure = new Failure(
      'upgrade_required',
      `Open a terminal as a WebSocket of subprotocol ${TERMINAL_SUBPROTOCOL}.`,
    );
    return problemResponse(failure, context.requestId, { Upgrade: 'websocket' });
  }

  async function end(context: KeyedContext): Promise<Response> {
    const { place, name, terminal } = await terminalOf(context);
    if (!terminal) throw noTerminal(name);
    const at = { ...place, tenant: context.caller.tenant, what: 'session' } as const;
    const answer = await askInstance(directory, at, ({ questions }) =>
      questions.cancel(terminal.execution_id, 'cancelled', CANCEL_TIMEOUT_MS),
    );
    if (!answer) throw new Failure('agent_lost', 'The agent did not say in time.', { started: 'yes' });
    return new Response(null, { status: 204 });
  }

  return [
    {
      method: 'GET',
      path: PATH,
      scope: 'sessions',
      handle: explain,
      doc: {
        summary:
          'An interactive terminal, as a WebSocket of subprotocol podgate.terminal.v1 (docs/terminals.md); a key may come as subprotocol podgate.key.<key>',
        query: {
          rows: { description: 'Of the terminal; 24 unless given, or as it was', schema: side },
          columns: { description: 'Of the terminal; 80 unless given, or as it was', schema: side },
          offset: { description: 'Bytes of output that the caller has', schema: { type: 'integer' } },
          resume: {
            description: 'execution_id of the terminal that the caller had: no other is opened',
            schema: { type: 'string' },
          },
          create: { description: 'false: only one that there is', schema: { type: 'boolean' } },
          writer: { description: 'Who types; input is counted for each', schema: { type: 'string' } },
          term: { description: 'TERM of a new one; xterm-256color unless given', schema: { type: 'string' } },
        },
        responses: { 101: { description: 'The terminal, attached' } },
        problems: [...PROBLEMS, 426, 501],
      },
    },
    {
      method: 'DELETE',
      path: PATH,
      scope: 'sessions',
      handle: end,
      doc: {
        summary: 'End a terminal and all that runs in it',
        responses: { 204: { description: 'It has ended' } },
        problems: PROBLEMS,
      },
    },
  ];
}
