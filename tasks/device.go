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

// deviceFor is the device for a model in that precision, nil for the processor,
// which alone has int8.
func deviceFor(ctx context.Context, p llm.Precision) llm.Device {
	d, _ := ctx.Value(deviceKey{}).(llm.Device)
	if p == llm.Int8 {
		return nil
	}
	return d
}
