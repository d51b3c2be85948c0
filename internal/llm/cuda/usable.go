package cuda

import "fmt"

// leastMajor is the compute capability that the kernels need, and leastDriver the
// release of CUDA whose nvcc made their PTX: a driver reads that of its own release
// and of older ones.
const (
	leastMajor  = 8
	leastDriver = 11080
)

// usable says what a card or its driver lacks to run the kernels. The driver's
// version is as cuDriverGetVersion has it, less than 1 where it is not known.
func usable(name string, major, minor, driver int) error {
	if major < leastMajor {
		return fmt.Errorf("the card %s has compute capability %d.%d; the kernels need %d.0 (A100, RTX 30) or newer; --device cpu runs models on the processor", name, major, minor, leastMajor)
	}
	if driver > 0 && driver < leastDriver {
		return fmt.Errorf("the driver of the card %s is of CUDA %s, and the kernels need one of CUDA %s or newer: update NVIDIA's driver, or run models on the processor with --device cpu", name, release(driver), release(leastDriver))
	}
	return nil
}

// release is a version of the driver as NVIDIA writes it.
func release(version int) string { return fmt.Sprintf("%d.%d", version/1000, version%1000/10) }
