package quota

// Buckets is how many are counted in.
func (l *Limiter) Buckets() int { return l.buckets.Len() }
