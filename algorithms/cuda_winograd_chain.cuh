// Launches that overlap, as gpu_launch.py makes them. To a kernel that is launched plainly these do nothing.
#pragma once

// Before what the kernel ahead wrote is touched; what those before it wrote is there anyway, as all wait first and
// then admit the next.
__device__ __forceinline__ void await_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next kernel may take up room that is left, once all blocks have come to this.
__device__ __forceinline__ void admit_next() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
