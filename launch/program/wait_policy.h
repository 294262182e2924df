// How long threads that wait for each other keep their processor. libgomp lets them spin for milliseconds, which is as long
// as a small model's whole step: where a processor is shared, the thread that is waited for cannot run meanwhile.
#pragma once

namespace muonp::launch {

// Starts this program anew, once, with a bound on the spinning in its environment (GOMP_SPINCOUNT): libgomp reads that
// before main. Does nothing for a command that needs no threads, which would load its libraries twice for it; where the user
// has said how to wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT); and where the program cannot be started again: then libgomp's own
// bound holds.
void bound_waiting(char** arguments);

}  // namespace muonp::launch
