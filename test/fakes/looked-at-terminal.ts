import type { Terminal, TerminalRequest } from '../../client/podgate.ts';
import type { Session } from '../../client/sessions.ts';
import { until } from './until.ts';

const encoder = new TextEncoder();

export type LookedAt = Awaited<ReturnType<typeof lookAt>>;

/** A terminal whose screen is watched until it ends or the connection does. */
export async function lookAt(session: Session, request: TerminalRequest = {}) {
  const terminal: Terminal = await session.terminal(request);
  const seen = { text: '', gaps: [] as [number, number][], error: '' };
  const decoder = new TextDecoder();
  const ended = (async () => {
    try {
      for await (const event of terminal.events()) {
        if (event.type === 'output') seen.text += decoder.decode(event.bytes, { stream: true });
        else if (event.type === 'gap') seen.gaps.push([event.from, event.to]);
        else return event;
      }
    } catch (error) {
      seen.error = (error as { code: string }).code;
    }
    return undefined;
  })();
  return {
    terminal,
    seen,
    ended,
    type: (text: string) => terminal.write(encoder.encode(text)),
    shows: (text: string | RegExp) =>
      until(() => (typeof text === 'string' ? seen.text.includes(text) : text.test(seen.text))),
  };
}
