import { expectTypeOf, test } from 'vitest';
import type * as z from 'zod';
import type * as sessions from '../../client/session-types.ts';
import type * as client from '../../client/types.ts';
import type * as api from '../../shared/api.ts';
import type * as sessionApi from '../../shared/session-api.ts';
import type { SignalName } from '../../shared/signals.ts';

type Infer<Name extends keyof typeof api> = (typeof api)[Name] extends z.ZodType
  ? z.output<(typeof api)[Name]>
  : never;

/** The client repeats the API's types by hand, as it imports nothing: these lines do not compile where they differ. */
test("the client's types are the API's", () => {
  expectTypeOf<client.ExecuteRequest>().toEqualTypeOf<z.input<ReturnType<typeof api.executeRequestSchema>>>();
  expectTypeOf<Flat<client.ExecuteResult>>().toEqualTypeOf<Infer<'executeResponse'>>();
  expectTypeOf<Flat<Omit<client.ResultEvent, 'type'>>>().toEqualTypeOf<Infer<'resultEvent'>>();
  expectTypeOf<client.ResultFile>().toEqualTypeOf<Infer<'resultFile'>>();
  expectTypeOf<Omit<client.OutputEvent, 'type'>>().toEqualTypeOf<Infer<'outputEvent'>>();
  expectTypeOf<client.Started>().toEqualTypeOf<Infer<'errorEvent'>['started']>();
  expectTypeOf<client.UploadedFile>().toEqualTypeOf<Infer<'fileUploaded'>>();
  expectTypeOf<Deep<client.FilePage>>().toEqualTypeOf<Infer<'fileList'>>();
  expectTypeOf<client.ClusterPage>().toEqualTypeOf<Infer<'clusterList'>>();
  expectTypeOf<sessions.SessionRequest>().toEqualTypeOf<z.input<typeof sessionApi.createSessionRequest>>();
  expectTypeOf<sessions.SessionState>().toEqualTypeOf<sessionApi.SessionResponse>();
  expectTypeOf<sessions.SessionPage>().toEqualTypeOf<z.infer<typeof sessionApi.sessionList>>();
  expectTypeOf<sessions.BashRequest>().toEqualTypeOf<
    z.input<ReturnType<typeof sessionApi.bashRequestSchema>>
  >();
  expectTypeOf<Flat<sessions.BashStreamRequest>>().toEqualTypeOf<
    z.input<ReturnType<typeof sessionApi.bashStreamRequestSchema>>
  >();
  expectTypeOf<sessions.StdinState>().toEqualTypeOf<z.infer<typeof sessionApi.stdinResponse>>();
  expectTypeOf<sessions.SignalName>().toEqualTypeOf<SignalName>();
  expectTypeOf<Flat<sessions.BashResult>>().toEqualTypeOf<sessionApi.BashResponse>();
  expectTypeOf<sessions.PythonRequest>().toEqualTypeOf<
    z.input<ReturnType<typeof sessionApi.pythonRequestSchema>>
  >();
  expectTypeOf<Flat<sessions.PythonResult>>().toEqualTypeOf<sessionApi.PythonResponse>();
  expectTypeOf<sessions.WorkspaceEntry>().toEqualTypeOf<sessionApi.WorkspaceEntry>();
  expectTypeOf<sessions.WorkspacePage>().toEqualTypeOf<z.infer<typeof sessionApi.workspaceList>>();
  expectTypeOf<client.ExecutionStatus>().toEqualTypeOf<Infer<'executionStatus'>>();
});

/** Intersections written out. */
type Flat<Type> = { [Name in keyof Type]: Type[Name] };
type Deep<Type> = Type extends object ? { [Name in keyof Type]: Deep<Type[Name]> } : Type;
