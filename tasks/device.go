package tasks

import (
	"context"

	"clusterflow/internal/llm"
)

type deviceKey struct{}

// WithDevice returns a context in which tasks run models on the device.
func WithDevice(ctx context.Context, d llm.Device) context.Context {
	return context.WithValue(ctx, deviceKey{}, d)
}

// deviceFrom is the device of the context, nil for the processor.
func deviceFrom(ctx context.Context) llm.Device {
	d, _ := ctx.Value(deviceKey{}).(llm.Device)
	return d
}
