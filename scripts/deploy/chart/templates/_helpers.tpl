{{- define "verenc.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) }}{{ $name = printf "%s-%s" $name .Chart.Name }}{{ end -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "verenc.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "verenc.labels" -}}
{{ include "verenc.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{- define "verenc.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* The configuration of the server: the values' settings, and over them what belongs to the pod. */ -}}
{{- define "verenc.config" -}}
{{- $pod := dict "listen" "0.0.0.0:8600" "private_listen" "0.0.0.0:8601"
      "shutdown_timeout" (printf "%ds" (int .Values.shutdownSeconds)) -}}
{{- $key := get .Values.config "tls_key" | default "/etc/verenc-tls/tls.key" -}}
{{- with .Values.secrets.tls -}}
{{- if .name }}{{ $_ := merge $pod (dict "tls_cert" "/etc/verenc-tls/tls.crt" "tls_key" $key) }}{{ end -}}
{{- if .clientCA }}{{ $_ := set $pod "tls_client_ca" (printf "/etc/verenc-tls/%s" .clientCA) }}{{ end -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $pod) -}}
{{- end }}

{{- define "verenc.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Environment and mounts of every run of verenc. */ -}}
{{- define "verenc.run" -}}
image: {{ include "verenc.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- include "verenc.containerSecurity" . | nindent 2 }}
env:
  - name: VERENC_CONFIG
    value: /etc/verenc/verenc.yaml
  - name: VERENC_AUDIT_ORIGIN # each server has a log of its own
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: CREDENTIALS_DIRECTORY
    value: /run/credentials/verenc
  {{- with .Values.hsm.env }}{{ toYaml . | nindent 2 }}{{ end }}
  {{- with .Values.extraEnv }}{{ toYaml . | nindent 2 }}{{ end }}
volumeMounts:
  - {name: state, mountPath: /var/lib/verenc}
  - {name: config, mountPath: /etc/verenc, readOnly: true}
  - {name: credentials, mountPath: /run/credentials/verenc, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.secrets.tls.name }}
  - {name: tls, mountPath: /etc/verenc-tls, readOnly: true}
  {{- end }}
  {{- if or .Values.hsm.image .Values.hsm.volume }}
  - {name: hsm, mountPath: /opt/hsm, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
