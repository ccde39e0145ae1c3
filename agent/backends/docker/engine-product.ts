/** Who made the engine that answers. */
export type EngineProduct = 'docker' | 'podman';

/** In what engines of one API differ, where a container would be another. */
export type ProductTraits = {
  /** A tmpfs mount may have a number of files and an owner; else its owner is asked for by `U`, and memory alone bounds its files. */
  readonly boundsFiles: boolean;
  /** A container may have a runtime of its own; else what it names is passed over in silence. */
  readonly choosesRuntime: boolean;
  /** What a read-only container is given to write to without asking. */
  readonly writablePlaces: readonly string[];
  /** Its control groups are told by its own answer alone: in Docker's terms it denies those of the second version, or makes them up. */
  readonly namesControllers: boolean;
  /** Limits that are not named are raised as high as they go, which fails where the engine may not raise them. */
  readonly raisesLimits: boolean;
};

export const PRODUCT_TRAITS: Readonly<Record<EngineProduct, ProductTraits>> = {
  docker: {
    boundsFiles: true,
    choosesRuntime: true,
    writablePlaces: [],
    namesControllers: false,
    raisesLimits: false,
  },
  podman: {
    boundsFiles: false,
    choosesRuntime: false,
    writablePlaces: ['/run', '/var/tmp'],
    namesControllers: true,
    raisesLimits: true,
  },
};

/** `Components` of `GET /version`. */
export function productOf(
  components: readonly { Name?: string | undefined }[] | null | undefined,
): EngineProduct {
  return components?.some(({ Name }) => /podman/i.test(Name ?? '')) ? 'podman' : 'docker';
}
