import { Failure } from '../../shared/errors.ts';
import type { Route } from '../http/route.ts';

/** Where agents dial in, and the subprotocol they must name (shared/protocol.md 1.1). */
export const AGENT_LINK_PATH = '/v1/agents/link';
export const AGENT_SUBPROTOCOL = 'podgate.v1';

/** The agents' endpoint for those who come without an upgrade: adapters take WebSockets before they are requests. */
export function createAgentRoutes(): Route[] {
  return [
    {
      method: 'GET',
      path: AGENT_LINK_PATH,
      scope: null,
      handle: () => {
        const message = `Agents dial this with a WebSocket of subprotocol ${AGENT_SUBPROTOCOL}.`;
        throw new Failure('invalid_request', message, { errors: [{ path: 'Upgrade', message }] });
      },
      doc: null,
    },
  ];
}
