# Sourced by scripts that start ranks on this host: MUONP_MPIRUN holds mpirun's options.
# Ranks share cores politely (no binding to core 0, yielding while idle), and have a minute to save when told to stop.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
MUONP_MPIRUN=(--oversubscribe --bind-to none
  --mca mpi_yield_when_idle 1
  --mca btl_vader_single_copy_mechanism none  # containers forbid the system call it would use
  --mca odls_base_sigkill_timeout 60)
