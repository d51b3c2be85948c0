package main

import (
	"runtime"
	"time"

	"clusterflow/internal/linalg"
)

// ceiling measures the machine's fused multiply-adds in float32, in 10⁹
// operations a second, on so many threads at once: the best of a few runs of a
// tenth of a second. It returns 0 where there is no loop for the processor.
func ceiling(threads int) (gflops float64, name string) {
	loop, operations, name := fmaLoop()
	if loop == nil {
		return 0, ""
	}
	const rounds = 1 << 22
	for range 5 {
		begin := time.Now()
		linalg.ForEach(threads, threads, func(int) { loop(rounds) })
		gflops = max(gflops, float64(threads)*rounds*operations/time.Since(begin).Seconds()/1e9)
	}
	return gflops, name
}

// meter samples the ceiling of one thread while other work goes on around it,
// for machines whose speed changes with the hour and the neighbours.
type meter struct {
	operations, seconds, processor float64
}

// sample runs the loop for some five milliseconds on the calling thread.
func (m *meter) sample() {
	loop, operations, _ := fmaLoop()
	if loop == nil {
		return
	}
	const rounds = 1 << 20
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin, cpu := time.Now(), threadTime()
	loop(rounds)
	m.seconds += time.Since(begin).Seconds()
	m.processor += threadTime() - cpu
	m.operations += rounds * operations
}

// gflops is the mean of the samples, in 10⁹ operations a second.
func (m *meter) gflops() float64 { return m.operations / max(m.seconds, 1e-9) / 1e9 }

// perProcessor is the same per second of processor time, which leaves out when
// other processes ran.
func (m *meter) perProcessor() float64 { return m.operations / max(m.processor, 1e-9) / 1e9 }
