// The real header's name; all of it is in cuda_emulator.h.
